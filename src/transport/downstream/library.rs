//! OpenSSL's start: without any openssl.cnf, and with the legacy provider where RC4 needs it.
//!
//! The one place with unsafe code: rust-openssl has no safe call for `OPENSSL_INIT_NO_LOAD_CONFIG`, and none for the
//! options of one connection.

use std::fmt;
use std::sync::{Once, OnceLock};

use openssl::error::ErrorStack;
use openssl::provider::Provider;
use openssl::ssl::{SslOptions, SslRef};

/// Starts OpenSSL, before any other use of it. A distribution's openssl.cnf may forbid TLS 1.0 for the whole process;
/// only our own configuration decides what a listener takes.
pub(super) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `OPENSSL_init_ssl` may be called at any time, from any thread, any number of times
        // (OPENSSL_init_ssl(3)); a null pointer for the settings is allowed. It hands out no memory.
        #[allow(unsafe_code)]
        let _ = unsafe { openssl_sys::OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, std::ptr::null()) };
        openssl::init();
    });
}

/// Sets options for one connection alone, from here on.
pub(super) fn set_options(ssl: &SslRef, options: SslOptions) {
    #[allow(unsafe_code)]
    unsafe extern "C" {
        // openssl/ssl.h; not in openssl-sys.
        fn SSL_set_options(ssl: *mut openssl_sys::SSL, options: u64) -> u64;
    }
    let ssl = std::ptr::from_ref(ssl).cast_mut().cast();
    // SAFETY: as for `clear_options`.
    #[allow(unsafe_code)]
    unsafe {
        SSL_set_options(ssl, options.bits())
    };
}

/// Takes options back for one connection alone, from here on. Returns those that are left.
pub(super) fn clear_options(ssl: &SslRef, options: SslOptions) -> SslOptions {
    #[allow(unsafe_code)]
    unsafe extern "C" {
        // openssl/ssl.h; not in openssl-sys.
        fn SSL_clear_options(ssl: *mut openssl_sys::SSL, options: u64) -> u64;
    }
    let ssl = std::ptr::from_ref(ssl).cast_mut().cast();
    // SAFETY: a reference to `SslRef` is the pointer to OpenSSL's own structure (foreign_types::ForeignTypeRef). It
    // belongs to one thread at a time, and the call keeps no pointer.
    #[allow(unsafe_code)]
    let left = unsafe { SSL_clear_options(ssl, options.bits()) };
    SslOptions::from_bits_retain(left)
}

/// Loads the legacy provider, which has RC4. That unloads the default one, unless it is loaded by name too.
pub(super) fn load_legacy_provider() -> Result<(), ProviderError> {
    static PROVIDERS: OnceLock<Result<(Provider, Provider), ProviderError>> = OnceLock::new();
    let loaded = PROVIDERS.get_or_init(|| {
        let load = |name| Provider::load(None, name).map_err(|source| ProviderError { name, source });
        Ok((load("default")?, load("legacy")?))
    });
    loaded.as_ref().map(|_| ()).map_err(Clone::clone)
}

/// A provider of OpenSSL that cannot be loaded.
#[derive(Clone, Debug)]
pub struct ProviderError {
    name: &'static str,
    source: ErrorStack,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenSSL's {} provider: {}", self.name, self.source)
    }
}

impl std::error::Error for ProviderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// openssl/crypto.h; not in openssl-sys.
const OPENSSL_INIT_NO_LOAD_CONFIG: u64 = 0x80;
