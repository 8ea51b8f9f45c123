//! A reload asks again whether a verified login is still allowed: by device, password, network and right to delete.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Device, Devices};
use crate::withdrawal::Withdrawn;

/// A login that was verified: by which name, of which device, with which of its passwords.
#[derive(Debug)]
pub struct Verified {
    /// The device, as configured then.
    pub device: Arc<Device>,
    login: Box<str>,
    /// Index of the hash among those that are written for the device; none where its address stood for the login.
    hash: Option<usize>,
}

impl Verified {
    pub(super) fn new(device: &Arc<Device>, login: String, hash: usize) -> Self {
        Self { device: Arc::clone(device), login: login.into(), hash: Some(hash) }
    }

    pub(super) fn by_source(device: &Arc<Device>) -> Self {
        Self { device: Arc::clone(device), login: device.name.as_str().into(), hash: None }
    }
}

impl Devices {
    /// The device that would log in so by this configuration.
    ///
    /// A password is known by its hash alone, so that a new hash of the same password counts as another password.
    ///
    /// # Errors
    /// This configuration no longer has the device, or no longer allows its login.
    pub fn still_takes(&self, verified: &Verified, source: IpAddr) -> Result<&Arc<Device>, Withdrawn> {
        let (_, device) = self.find(&verified.login).ok_or(Withdrawn::Device)?;
        if Arc::ptr_eq(device, &verified.device) {
            return Ok(device);
        }
        match verified.hash {
            Some(hash) => {
                let hash = verified.device.written.get(hash);
                if hash.is_none_or(|hash| !device.written.contains(hash)) {
                    return Err(Withdrawn::Password);
                }
            }
            None if !device.sends_without_login => return Err(Withdrawn::WithoutLogin),
            None => {}
        }
        if !device.serves(source) {
            return Err(Withdrawn::DeviceNetwork);
        }
        if verified.device.delete && !device.delete {
            return Err(Withdrawn::Deletion);
        }
        Ok(device)
    }
}
