//! Protocols and TLS versions stand in JSON by the names that people know.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::assessment::Judgement;
use crate::protocol::Protocol;

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

/// The kind of a failure by its label; none where this program knows no such label.
pub(super) mod kind_label {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::failure::Kind;

    pub(in crate::inventory) fn serialize<S: Serializer>(kind: &Option<Kind>, to: S) -> Result<S::Ok, S::Error> {
        kind.map(Kind::label).serialize(to)
    }

    pub(in crate::inventory) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Kind>, D::Error> {
        let label: Option<String> = Option::deserialize(from)?;
        Ok(label.and_then(|label| Kind::ALL.into_iter().find(|kind| kind.label() == label)))
    }
}

/// The start of TLS by its word, as `implicit`; none where this program knows no such word.
pub(super) mod tls_mode_name {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::inventory::observation::TlsMode;

    pub(in crate::inventory) fn serialize<S: Serializer>(mode: &Option<TlsMode>, to: S) -> Result<S::Ok, S::Error> {
        mode.serialize(to)
    }

    pub(in crate::inventory) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TlsMode>, D::Error> {
        let name: Option<String> = Option::deserialize(from)?;
        Ok(name.and_then(|name| {
            let word: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
            TlsMode::deserialize(word).ok()
        }))
    }
}

/// Accepts the name of a protocol that this program does not know.
pub(super) fn other_protocol<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    let name = String::deserialize(from)?;
    let is_known = Protocol::ALL.into_iter().any(|protocol| protocol.name() == name);
    if is_known { Err(D::Error::custom("a known protocol")) } else { Ok(()) }
}

/// Accepts the label of a judgement that this program does not know.
pub(super) fn other_judgement<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    let label = String::deserialize(from)?;
    let is_known = Judgement::ALL.into_iter().any(|judgement| judgement.label() == label);
    if is_known { Err(D::Error::custom("a known judgement")) } else { Ok(()) }
}
