//! A proxy between devices and a server, both played by the test, for attacks on STARTTLS of each protocol.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use openssl::ssl::SslContext;

use crate::peer::{Peer, accept, client_hello, lossy};
use crate::setup;
use support::certificates::Certificates;
use support::proxy::Proxy;

/// The keys of a listener that takes logins in clear.
pub const PLAINTEXT: &str = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Words of a device's login that must appear nowhere.
pub struct Marks {
    /// At the server.
    pub heard: &'static [&'static str],
    /// In the log's line about the login.
    pub logged: &'static [&'static str],
}

pub struct Between {
    pub proxy: Proxy,
    pub context: SslContext,
    server: TcpListener,
    marks: Marks,
    _directory: tempfile::TempDir,
}

impl Between {
    /// The function returns the configuration, from the server's port and a directory with its CA.
    pub fn new(marks: Marks, text: impl FnOnce(u16, &Path) -> String) -> Self {
        let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(&text(server.local_addr().unwrap().port(), directory.path()));
        Self { proxy, context: setup::server(&certificates), server, marks, _directory: directory }
    }

    pub fn device(&self, listener: &str) -> Peer {
        Peer::connect(HERE, self.proxy.address(listener))
    }

    /// The proxy's next connection to the server.
    pub fn accepted(&self) -> Peer {
        Peer::over(accept(&self.server).unwrap())
    }

    /// Reads at the server until the proxy has closed, and finds nothing of the login. The device gets its refusal, and
    /// the log has the reason.
    pub fn came_to_nothing(&self, what: &str, device: &mut Peer, server: &mut Peer, refusal: &str, reason: &str) {
        server.hear_to_the_end().unwrap();
        let heard = lossy(&server.heard);
        assert!(!self.marks.heard.iter().any(|mark| heard.contains(mark)), "{what}: {heard:?}");
        device.line_with(refusal).unwrap_or_else(|other| panic!("{what}: {other}"));
        let from = device.tcp().unwrap().local_addr().unwrap();
        // An earlier device may have used the same port.
        let words = ["login failed".to_owned(), format!("\"{from}\""), format!("\"{reason}\"")];
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        let line = self.proxy.log.wait_for(&format!("{reason} for {what:?}"), is_it);
        assert!(!self.marks.logged.iter().any(|mark| line.contains(mark)), "{what}: {line}");
    }

    /// Sends STARTTLS, the end of `start`, and these octets behind it in the same segment. The proxy takes them for a
    /// ClientHello or refuses them, and obeys none. `begin` is in its answer, `obeyed` in no later one.
    pub fn never_obeys(
        &self,
        listener: &str,
        start: &str,
        [begin, obeyed @ ..]: [&str; 4],
        login: &str,
        more: &[&[u8]],
    ) {
        let injections = more.iter().map(|words| (words.to_vec(), "injection"));
        for (injected, reason) in injections.chain(injections_of(login)) {
            let mut device = self.device(listener);
            device.line().unwrap();
            device.try_send(&[start.as_bytes(), &injected].concat()).unwrap();
            while !device.line().unwrap().contains(begin) {}
            device.hear_to_the_end().unwrap();
            // The device gets no answer to the command: only a goodbye before TLS, or records.
            let heard = lossy(&device.heard);
            assert!(!obeyed.iter().any(|answer| heard.contains(answer)), "{injected:?}: {heard:?}");
            let from = device.tcp().unwrap().local_addr().unwrap();
            let line = self.proxy.session_of("source", &from.to_string()).to_string();
            assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{injected:?}: {line}");
            assert!(line.contains("\"login\":\"-\""), "{injected:?}: {line}");
        }
    }

    /// Checks that the log has none of these words of the login, and that the proxy has dialled no server.
    pub fn had_no_login(&self, marks: &[&str]) {
        assert_eq!(self.proxy.log.count(|line| marks.iter().any(|mark| line.contains(mark))), 0);
        self.server.set_nonblocking(true).unwrap();
        assert!(self.server.accept().is_err(), "the server was dialled");
    }
}

/// Octets that no protocol of mail sends behind STARTTLS, a login among them, and the reason in the log.
fn injections_of(login: &str) -> Vec<(Vec<u8>, &'static str)> {
    let login = login.as_bytes();
    let words: [&[u8]; 7] =
        [login, b"\r\n", b"\n", b" ", b"\0", b"\x15\x03\x01\0\x02\x02\x28", &[&[0x80], login].concat()];
    let tls = [
        [&[22], login].concat(),
        [&[0x80, 46, 1, 3, 1], login, &[0; 64]].concat(),
        [&[22, 3, 1, 0, 64], login, &[0; 64]].concat(),
        [&client_hello(), login].concat(),
    ];
    words.into_iter().map(|words| (words.to_vec(), "injection")).chain(tls.map(|tls| (tls, "handshake"))).collect()
}
