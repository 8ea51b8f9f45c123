//! These tests prove the deadlines of everything that needs a socket: handshakes, the PROXY header, and dialling a
//! server.
//!
//! The peers are silent once the clock is paused, so that nothing of the kernel's is waited for.

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::pause;

use super::*;

#[tokio::test]
async fn a_device_that_begins_no_handshake_has_the_handshake_timeout() {
    let silence = serve_silence("entry = \"implicit\"\n", async |_| {}).await;
    silence.assert(HANDSHAKE_TIMEOUT, "handshake_timeout");
}

#[tokio::test]
async fn a_device_that_does_not_finish_its_handshake_has_the_handshake_timeout() {
    let silence = serve_silence("entry = \"implicit\"\n", async |device| {
        device.write_all(HALF_HELLO).await.unwrap();
    });
    silence.await.assert(HANDSHAKE_TIMEOUT, "handshake_timeout");
}

#[tokio::test]
async fn a_hello_that_does_not_end_has_the_handshake_timeout_behind_the_detection() {
    let silence = serve_silence("entry = \"auto\"\ndetect_delay = \"3s\"\n", async |device| {
        device.write_all(HALF_HELLO).await.unwrap();
    });
    silence.await.assert(3 * SECOND + HANDSHAKE_TIMEOUT, "handshake_timeout");
}

#[tokio::test]
async fn a_silent_device_is_greeted_in_clear_behind_the_detection() {
    let silence = serve_silence("entry = \"auto\"\ndetect_delay = \"3s\"\n", async |_| {}).await;
    silence.assert(3 * SECOND + LOGIN_TIMEOUT + LINGER, "no_command");
    assert!(silence.device.starts_with("* OK") && silence.device.contains("* BYE"), "{}", silence.device);
}

#[tokio::test]
async fn a_handshake_behind_starttls_has_the_handshake_timeout() {
    let silence = serve_silence("entry = \"starttls\"\n", async |device| {
        device.write_all(b"a STARTTLS\r\n").await.unwrap();
        let mut text = String::new();
        while !text.contains("a OK") {
            let mut octets = [0; 512];
            let count = device.read(&mut octets).await.unwrap();
            text.push_str(std::str::from_utf8(&octets[..count]).unwrap());
        }
    });
    silence.await.assert(HANDSHAKE_TIMEOUT, "handshake_timeout");
}

#[tokio::test]
async fn a_balancer_that_announces_nobody_has_the_handshake_timeout() {
    let silence = serve_silence("entry = \"starttls\"\nproxy_protocol = [\"127.0.0.1/32\"]\n", async |_| {}).await;
    silence.assert(HANDSHAKE_TIMEOUT, "proxy_header");
    assert_eq!(silence.device, "");
}

/// The server's queue of connections is full, and the kernel answers no further one.
#[tokio::test]
async fn a_server_that_answers_no_connection_has_the_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let _first = TcpStream::connect(full.local_addr().unwrap()).await.unwrap();
    assert_dial_fails(&full, 10 * SECOND, Kind::Connect).await;
}

#[tokio::test]
async fn a_server_that_answers_no_handshake_has_the_upstream_handshake_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_dial_fails(&silent, 20 * SECOND, Kind::UpstreamTimeout).await;
}

/// The result for a device that is silent from some time on.
struct Silence {
    begun: Instant,
    silent_since: Instant,
    ended: Instant,
    device: String,
    metrics: String,
}

impl Silence {
    /// Checks the time at which the device was let go, the reason, and the metrics. The device's time began before it
    /// fell silent.
    fn assert(&self, after: Duration, reason: &str) {
        let Self { begun, silent_since, ended, .. } = *self;
        assert!(ended >= begun + after, "{:?} in place of {after:?}", ended - begun);
        assert!(ended < silent_since + after + MOMENT, "{:?} in place of {after:?}", ended - silent_since);
        assert_counted(&self.metrics, reason);
    }
}

/// Serves a device that plays its script in real time and is silent once the clock is paused.
async fn serve_silence(listener: &str, script: impl AsyncFnOnce(&mut TcpStream)) -> Silence {
    let text = configuration(Protocol::Imap, "", listener);
    let (process, service) = service(&text);
    let (_trigger, lifecycle) = lifecycle::begin();
    let current = Arc::new(CurrentService::new(&service, lifecycle.clone()));
    let mut admitted = process.connections.admit().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut device = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    let (tcp, source) = socket.accept().await.unwrap();
    if service.listener.proxy_protocol.0.is_empty() {
        admitted.assign_source(source.ip()).unwrap();
    }
    let peer = Peer { id: process.connections.next_id(), source };
    // The metrics of a listener go with its service.
    let accepted = Accepted {
        peer,
        service: Arc::clone(&service),
        current,
        registry: Arc::clone(&process.registry),
        admitted,
        lifecycle,
    };
    let script = async {
        script(&mut device).await;
        pause();
        Instant::now()
    };
    let served = async {
        serve(tcp, accepted).await;
        Instant::now()
    };
    let begun = Instant::now();
    let (ended, silent_since) = tokio::join!(served, script);
    let mut octets = Vec::new();
    // Unread octets of the device turn the close into a reset.
    let _ = device.read_to_end(&mut octets).await;
    let device = String::from_utf8_lossy(&octets).into_owned();
    Silence { begun, silent_since, ended, device, metrics: process.metrics.text().unwrap() }
}

/// Dials a silent server, and checks the time and the reason of the failure.
async fn assert_dial_fails(server: &TcpListener, after: Duration, kind: Kind) {
    let port = server.local_addr().unwrap().port();
    let text = configuration(Protocol::Imap, &format!("imap_port = {port}\n"), "entry = \"starttls\"\n");
    let (_process, service) = service(&text);
    let Backend::PassThrough(pass_through) = service.logins.as_ref() else { panic!("it passes logins through") };
    pause();
    let begun = Instant::now();
    let Err(failure) = Tcp.dial(&pass_through.server).await else { panic!("it answers") };
    let took = begun.elapsed();
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(took >= after && took < after + MOMENT, "{took:?} in place of {after:?}");
}

/// The head of a handshake record, with fewer octets than it announces.
const HALF_HELLO: &[u8] = &[22, 3, 1, 0, 100, 1, 0, 0, 96, 3, 1];
/// The default limit.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
