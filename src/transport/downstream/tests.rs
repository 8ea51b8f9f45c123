//! These tests hold what a TLS stream towards a device keeps, wipes and says.

use super::*;
use crate::config::{Certificate, CertificateSource, Digest, Profile};
use crate::mode::Mode;
use certificate::load;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// An acceptor of the profile `legacy`, and both ends of a connection.
async fn connection() -> (Acceptor, Socket, Socket) {
    let directory = tempfile::tempdir().unwrap();
    let source = CertificateSource::Made { names: vec!["x".to_owned()], digest: Digest::Sha256, years: Some(1) };
    let loaded = load(&Certificate { source, ecdsa: None }, directory.path(), "x", Mode::DryRun);
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    let acceptor = Acceptor::new(&Profile::Legacy.policy(), &loaded).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (acceptor, Socket::new(listener.accept().await.unwrap().0), Socket::new(device))
}

#[tokio::test]
async fn sessions_are_kept_up_to_a_bound() {
    let (acceptor, ..) = connection().await;
    for context in [&acceptor.known, &acceptor.strangers] {
        assert_eq!(context.session_cache_size(), i64::from(SESSIONS));
    }
}

fn old_client() -> Ssl {
    let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
    context.set_security_level(0);
    context.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
    context.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    Ssl::new(&context.build()).unwrap()
}

/// The device need not wait until we have let go of it altogether.
#[tokio::test]
async fn a_failure_is_reported_and_closed_at_once() {
    let (acceptor, socket, device) = connection().await;
    let mut device = Tls::over(old_client(), device).unwrap();
    let (served, shaken) = tokio::join!(
        async {
            let mut tls = acceptor.accept(socket, Sessions::Strangers).await.unwrap();
            tls.flush().await.unwrap();
            tls
        },
        Pin::new(&mut device.0).connect()
    );
    let mut served = served;
    shaken.unwrap();
    let tcp = device.0.get_mut();
    tcp.write_all(&[&[23, 3, 1, 0, 32][..], &[1; 32]].concat()).await.unwrap();
    std::future::poll_fn(|cx| tcp.poll_send(cx)).await.unwrap();
    assert!(served.read(&mut [0; 100]).await.is_err());
    served.shutdown().await.unwrap();
    let said = tokio::time::timeout(Duration::from_secs(60), device.read(&mut [0; 100])).await;
    let said = said.expect("the end is sent").unwrap_err().to_string();
    assert!(said.contains("alert bad record mac"), "{said}");
}

/// Both ends of a connection, behind their handshake.
async fn shaken(acceptor: &Acceptor, socket: Socket, device: Socket) -> (Tls, Tls) {
    let mut device = Tls::over(old_client(), device).unwrap();
    let (served, shaken) = tokio::join!(
        async {
            let mut tls = acceptor.accept(socket, Sessions::Known).await.unwrap();
            tls.flush().await.unwrap();
            tls
        },
        Pin::new(&mut device.0).connect()
    );
    shaken.unwrap();
    (served, device)
}

/// The connection goes on, and other connections wipe as before.
#[tokio::test]
async fn wiping_ends_for_one_connection_alone() {
    let (acceptor, socket, device) = connection().await;
    let (mut served, mut device) = shaken(&acceptor, socket, device).await;
    let wipes =
        |ssl: &openssl::ssl::SslRef| library::clear_options(ssl, SslOptions::empty()).contains(CLEANSE_PLAINTEXT);
    let mut room = [0; 20];
    for (words, is_wiped) in [("the password", true), ("the message", false)] {
        device.write_all(words.as_bytes()).await.unwrap();
        device.flush().await.unwrap();
        assert_eq!(wipes(served.0.ssl()), is_wiped, "{words}");
        let count = served.read(&mut room).await.unwrap();
        assert_eq!(&room[..count], words.as_bytes());
        served.stop_wiping();
    }
    let left = library::clear_options(served.0.ssl(), SslOptions::empty());
    assert!(left.contains(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET), "{left:?}");
    let (_, socket, device) = connection().await;
    let (other, _device) = shaken(&acceptor, socket, device).await;
    assert!(wipes(other.0.ssl()));
}

/// An acceptor goes on behind a reload for the same policy and the same certificate alone.
#[tokio::test]
async fn an_acceptor_is_of_its_policy_and_its_certificate() {
    let loaded = |years| {
        let source = CertificateSource::Made { names: vec!["x".to_owned()], digest: Digest::Sha256, years };
        let directory = tempfile::tempdir().unwrap();
        load(&Certificate { source, ecdsa: None }, directory.path(), "x", Mode::DryRun)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let (one, other) = (loaded(Some(1)), loaded(Some(1)));
    let acceptor = Acceptor::new(&Profile::Legacy.policy(), &one).unwrap();
    assert!(acceptor.is_of(&Profile::Legacy.policy(), &one));
    assert!(!acceptor.is_of(&Profile::Legacy.policy(), &other));
    assert!(!acceptor.is_of(&Profile::Modern.policy(), &one));
    let policy = TlsPolicy { empty_fragments: true, ..Profile::Legacy.policy() };
    assert!(!acceptor.is_of(&policy, &one) && policy != Profile::Legacy.policy());
}

/// OpenSSL silently drops names it does not know: every suite of ours must be one of its own, by the same number.
#[test]
fn openssl_knows_every_suite_that_a_profile_names() {
    library::start();
    library::load_legacy_provider().unwrap();
    let policy = Profile::Ancient.policy();
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_security_level(0);
    context.set_min_proto_version(Some(SslVersion::SSL3)).unwrap();
    for suite in policy.suites {
        context.set_cipher_list(suite.name).unwrap_or_else(|error| panic!("{}: {error}", suite.name));
    }
}
