//! LOGIN (draft-murchison-sasl-login-00): a prompt for the user name, a prompt for the password.

use crate::secret::Secret;

use super::{Credentials, Mechanism, Method};

/// `Username:`. Every server sends this form. Xerox devices give up on the draft's own `User Name` NUL.
pub(super) const USERNAME: &str = "VXNlcm5hbWU6";
/// `Password:`.
pub(super) const PASSWORD: &str = "UGFzc3dvcmQ6";

/// Reads the device's answers to the two prompts.
pub(super) fn read(login: &[u8], password: &[u8]) -> Option<Credentials> {
    Some(Credentials {
        method: Method::Sasl(Mechanism::Login),
        login: super::name(login),
        authzid: Vec::new(),
        secret: Secret::new(password.to_vec()),
    })
}
