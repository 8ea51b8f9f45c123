//! PLAIN (RFC 4616 §2): `[authzid] NUL authcid NUL passwd`.

use crate::secret::Secret;

use super::{Credentials, Mechanism, Method};

/// Reads the device's response.
pub(super) fn read(response: &[u8]) -> Option<Credentials> {
    let mut fields = response.split(|&octet| octet == 0);
    let (authzid, login, password) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next().is_none().then(|| Credentials {
        method: Method::Sasl(Mechanism::Plain),
        login: super::name(login),
        authzid: super::name(authzid),
        secret: Secret::new(password.to_vec()),
    })
}

/// Writes the response for the server.
pub(super) fn write(credentials: &Credentials) -> Vec<u8> {
    [&credentials.authzid, b"\0".as_slice(), &credentials.login, b"\0", credentials.secret.expose()].concat()
}
