//! Protocols and TLS versions stand in JSON by the names that people know.

/// A protocol, by the name that people know.
pub(super) mod protocol_name {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::protocol::Protocol;

    pub(in crate::inventory) fn serialize<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(protocol.name())
    }

    pub(in crate::inventory) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Protocol, D::Error> {
        let name = String::deserialize(from)?;
        let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        known.ok_or_else(|| D::Error::custom("unknown protocol"))
    }
}

/// A TLS version by its name, as `TLS 1.0`; none where this program knows no such version.
pub(super) mod version_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::Version;

    pub(in crate::inventory) fn serialize<S: Serializer>(version: &Option<Version>, to: S) -> Result<S::Ok, S::Error> {
        match version {
            Some(version) => to.collect_str(version),
            None => to.serialize_none(),
        }
    }

    pub(in crate::inventory) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Version>, D::Error> {
        let name: Option<String> = Option::deserialize(from)?;
        Ok(name.and_then(|name| Version::ALL.into_iter().find(|version| version.to_string() == name)))
    }
}
