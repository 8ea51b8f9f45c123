//! A mailbox on its way to a device: the device verified, its turn come, a token at hand.

use std::net::IpAddr;
use std::sync::Arc;

use super::Translation;
use super::mailbox::{Admission, Mailbox};
use crate::device::Verified;
use crate::failure::{Failure, Kind};
use crate::proto::{Credentials, Terms};
use crate::token::AccessToken;

/// A mailbox that is being opened, or is open.
pub(in crate::proxy) struct Authorized {
    pub(in crate::proxy) mailbox: Arc<Mailbox>,
    pub(in crate::proxy) token: Arc<AccessToken>,
    /// Another token was tried already.
    pub(in crate::proxy) is_second: bool,
    /// The conditions of the device's sessions in the mailbox.
    pub(in crate::proxy) terms: Terms,
    /// Counted until the session is over.
    _admission: Admission,
}

impl Authorized {
    /// Verifies the device: its mailbox, with a token at hand, and what was verified.
    ///
    /// # Errors
    /// The password is wrong, or there is no token.
    pub(in crate::proxy) async fn verified(
        translation: &Translation,
        credentials: &Credentials,
        source: IpAddr,
    ) -> Result<(Arc<Mailbox>, Verified), Failure> {
        let verified = translation.devices().verify(&credentials.login, &credentials.secret, source).await?;
        let device = &verified.device;
        let Some(mailbox) = translation.mailbox(&device.account).map(Arc::clone) else {
            return Err(Failure::new(Kind::ContactAdmin, format!("device \"{}\" has no account", device.name)));
        };
        // To act as somebody else is to open another mailbox than the one that was given.
        if !translation.devices().may_act_as(device, &credentials.authzid) {
            let detail = format!("device \"{}\" wants to act as somebody else (authorization identity)", device.name);
            return Err(Failure::new(Kind::WrongPassword, detail));
        }
        // First the token: who waits for that keeps nobody else out. It is at hand then when the turn has come.
        mailbox.token().await?;
        Ok((mailbox, verified))
    }

    /// Gets what opens the mailbox, now that the device's turn has come.
    ///
    /// # Errors
    /// There is no token.
    pub(in crate::proxy) async fn with(
        mailbox: Arc<Mailbox>,
        admission: Admission,
        terms: Terms,
    ) -> Result<Self, Failure> {
        let token = mailbox.token().await?;
        Ok(Self { mailbox, token, is_second: false, terms, _admission: admission })
    }
}
