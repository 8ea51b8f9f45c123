//! A device without a login is known by its address alone: the configuration names its networks, and asks for no more.

use std::net::IpAddr;
use std::sync::Arc;

use super::revalidate::Verified;
use super::{Device, Devices, WITHOUT_LOGIN, known};
use crate::failure::{Failure, Kind};

impl Devices {
    /// The device that may send mail from this address without a login. There is one at most: the networks of two such
    /// devices have no address in common.
    pub fn at(&self, source: IpAddr) -> Option<&Arc<Device>> {
        self.devices.iter().find(|device| device.sends_without_login && device.serves(source))
    }

    /// Logs in the device at this address.
    ///
    /// # Errors
    /// [`Kind::WrongPassword`] where no device may send from there, because a reload has taken it away.
    pub fn verify_source(&self, source: IpAddr) -> Result<Verified, Failure> {
        let device = self.at(source).ok_or_else(|| {
            let detail = format!("no [[device]] with send_without_login = true has {source} in its networks any more");
            Failure::new(Kind::WrongPassword, detail)
        })?;
        // A password of the device must not be easier to guess from an address that anybody may have used.
        if device.written.is_empty() {
            self.known.add_with(&device.name, source.into(), Some(known::mark(WITHOUT_LOGIN)));
        }
        Ok(Verified::by_source(device))
    }
}
