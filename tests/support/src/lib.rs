//! The tests start real peers through this library, and end them by their own process id.

pub mod accessibility;
pub mod bench;
pub mod browser;
pub mod certificates;
pub mod clock;
pub mod connection;
pub mod delivered;
pub mod device;
pub mod dovecot;
pub mod exchange;
pub mod exim;
pub mod forgotten;
pub mod fuzz;
pub mod guessers;
pub mod harness;
pub mod imap;
pub mod issuer;
pub mod mounted;
pub mod network;
pub mod pages;
pub mod pop3;
pub mod ports;
pub mod postfix;
pub mod postgresql;
pub mod prf;
pub mod process;
pub mod proxy;
pub mod record;
pub mod recorder;
pub mod server;
pub mod simulated_fleet;
pub mod simulated_records;
pub mod smtp;
pub mod stacks;
pub mod strain;
pub mod tls_client;
pub mod translated;

pub use ports::free_ports;

/// An enum without fields has an array `ALL` of its variants.
#[macro_export]
macro_rules! each {
    ($(#[$of:meta])* $see:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$of])*
        $see enum $name { $($(#[$doc])* $variant,)* }
        impl $name {
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];
        }
    };
}

/// A type is used as one of its fields.
#[macro_export]
macro_rules! deref {
    ($outer:ty, $field:ident: $inner:ty) => {
        impl std::ops::Deref for $outer {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.$field
            }
        }

        impl std::ops::DerefMut for $outer {
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.$field
            }
        }
    };
}

/// A message of about this many octets, with lines that look like protocol.
pub fn message(size: usize) -> Vec<u8> {
    let mut message = b"From: scanner@example.test\r\nTo: printer@example.test\r\nSubject: Scan\r\n\
        Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\n\
        * CAPABILITY IMAP4rev1 AUTH=PLAIN COMPRESS=DEFLATE\r\n\
        a1 OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] done\r\n\
        .\r\n..\r\n.leading dot\r\n\
        * 1 FETCH (BODY[] {5}\r\n+ go ahead\r\n+OK\r\n-ERR\r\n\xe4\xf6\xfc 8-bit\r\n"
        .to_vec();
    let mut number = 0_u64;
    while message.len() < size {
        message
            .extend(format!("{number:016x} the quick brown fox jumps over the lazy dog, line after line\r\n").bytes());
        number += 1;
    }
    message
}
