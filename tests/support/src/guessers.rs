//! This file plays strangers who guess passwords by IMAP in clear, from any number of addresses and connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

use crate::process::PATIENCE;

/// Guessers that go on until this value is dropped.
pub struct Guessers {
    seen: Arc<Seen>,
    connections: usize,
    _runtime: Runtime,
}

#[derive(Default)]
struct Seen {
    connected: AtomicUsize,
    /// Answers to logins, without their tags, with the count of each.
    answers: Mutex<std::collections::BTreeMap<String, usize>>,
}

impl Guessers {
    /// Opens this many connections from each of these addresses. The function returns the login that a connection
    /// guesses, by number.
    pub fn start(
        to: SocketAddr,
        sources: impl IntoIterator<Item = Ipv4Addr>,
        connections: usize,
        login: impl Fn(usize) -> String,
    ) -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Seen::default());
        let each = sources.into_iter().flat_map(|source| std::iter::repeat_n(source, connections));
        let count = each.enumerate().map(|(number, source)| {
            let (seen, login) = (Arc::clone(&seen), login(number));
            runtime.spawn(async move {
                // A guesser that is refused or closed comes again a little later.
                let mut pause = tokio::time::interval(Duration::from_millis(200));
                loop {
                    pause.tick().await;
                    guess(source, to, &login, &seen).await;
                }
            });
        });
        let connections = count.count();
        Self { seen, connections, _runtime: runtime }
    }

    /// Waits until every guesser has been greeted, and this many guesses are answered.
    pub fn until(self, answers: usize) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.connected.load(Ordering::Relaxed) < self.connections || self.answers() < answers {
            assert!(Instant::now() < deadline, "{}", self.told());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn answers(&self) -> usize {
        self.seen.answers.lock().unwrap().values().sum()
    }

    /// The answers and their counts, for the output of a test.
    pub fn told(&self) -> String {
        let (connected, answers) = (self.seen.connected.load(Ordering::Relaxed), self.seen.answers.lock().unwrap());
        format!("{} connections, greeted {connected} times: {answers:?}", self.connections)
    }
}

/// The address of this guesser; this host owns the whole network.
pub fn stranger(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap())
}

/// Guesses until the connection ends.
async fn guess(source: Ipv4Addr, to: SocketAddr, login: &str, seen: &Seen) -> Option<()> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((source, 0).into()).ok()?;
    let mut stream = BufReader::new(socket.connect(to).await.ok()?);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.starts_with("* OK ").then(|| seen.connected.fetch_add(1, Ordering::Relaxed))?;
    loop {
        stream.write_all(format!("a LOGIN {login} wrong\r\n").as_bytes()).await.ok()?;
        line.clear();
        while !line.starts_with("a ") {
            line.clear();
            (stream.read_line(&mut line).await.ok()? > 0).then_some(())?;
        }
        *seen.answers.lock().unwrap().entry(line.trim_end().trim_start_matches("a ").to_owned()).or_default() += 1;
    }
}
