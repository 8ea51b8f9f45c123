//! XOAUTH2, as Google and Microsoft document it: `user=` U `^A auth=Bearer ` T `^A^A`, where `^A` is 0x01.

use crate::secret::Secret;

use super::{Credentials, Mechanism, Method};

const END_OF_FIELD: u8 = 0x01;

/// Reads the device's response.
pub(super) fn read(response: &[u8]) -> Option<Credentials> {
    let mut fields = response.strip_suffix(&[END_OF_FIELD, END_OF_FIELD])?.split(|&octet| octet == END_OF_FIELD);
    let login = fields.next()?.strip_prefix(b"user=")?;
    let token = fields.next()?.strip_prefix(b"auth=Bearer ")?;
    fields.next().is_none().then(|| Credentials {
        method: Method::Sasl(Mechanism::Xoauth2),
        login: login.to_vec(),
        authzid: Vec::new(),
        secret: Secret::new(token.to_vec()),
    })
}

/// Writes the response for the server.
pub(super) fn write(credentials: &Credentials) -> Vec<u8> {
    [b"user=", credentials.login.as_slice(), b"\x01auth=Bearer ", credentials.secret.expose(), b"\x01\x01"].concat()
}
