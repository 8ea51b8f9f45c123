//! Authorization of a login: verify the device, reserve a session of the mailbox, get a token.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Translation;
use super::mailbox::{Admission, Mailbox};
use crate::device::Verified;
use crate::failure::{Failure, Kind};
use crate::proto::{Credentials, Method, Terms};
use crate::token::AccessToken;

/// An authorized login, with all that opens its mailbox.
pub(in crate::proxy) struct Authorized {
    pub(in crate::proxy) mailbox: Arc<Mailbox>,
    pub(in crate::proxy) token: Arc<AccessToken>,
    /// A second token is being tried.
    pub(in crate::proxy) is_second: bool,
    /// The conditions of the device's sessions in the mailbox.
    pub(in crate::proxy) terms: Terms,
    /// The reserved session, for as long as there is a connection to the server.
    pub(in crate::proxy) admission: Option<Admission>,
    /// The time of the login at the server, once it has succeeded.
    pub(in crate::proxy) since: Option<Instant>,
}

impl Authorized {
    /// Verifies the device. Returns its mailbox and the verified login.
    ///
    /// # Errors
    /// The password is wrong, or the device may not act as whom it names.
    pub(in crate::proxy) async fn verified(
        translation: &Translation,
        credentials: &Credentials,
        source: IpAddr,
    ) -> Result<(Arc<Mailbox>, Verified), Failure> {
        let devices = translation.devices();
        let verified = match credentials.method {
            Method::Source => devices.verify_source(source)?,
            Method::Command | Method::Sasl(_) => {
                devices.verify(&credentials.login, &credentials.secret, source).await?
            }
        };
        let device = &verified.device;
        let Some(mailbox) = translation.mailbox(&device.account).map(Arc::clone) else {
            let detail = format!(
                "device \"{}\" has account \"{}\", whose mail server does not serve this protocol: write its section \
                 below [upstream.NAME]",
                device.name, device.account
            );
            return Err(Failure::new(Kind::ContactAdmin, detail));
        };
        // A device must not open another mailbox than its own by an authorization identity.
        if !translation.devices().may_act_as(device, &credentials.authzid) {
            let detail = format!("device \"{}\" wants to act as somebody else (authorization identity)", device.name);
            return Err(Failure::new(Kind::WrongPassword, detail));
        }
        Ok((mailbox, verified))
    }

    /// Gets the token, now that a session is reserved.
    ///
    /// # Errors
    /// There is no token.
    pub(in crate::proxy) async fn with(
        mailbox: Arc<Mailbox>,
        admission: Admission,
        terms: Terms,
    ) -> Result<Self, Failure> {
        let token = mailbox.token().await?;
        Ok(Self { mailbox, token, is_second: false, terms, admission: Some(admission), since: None })
    }
}
