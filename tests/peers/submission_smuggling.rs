//! These tests prove that no end of data makes two messages out of one, from a device at TLS 1.0 up to a server that is
//! lenient in each known way.

use packetboat::simulator::Submission;
use packetboat::simulator::quirks::smtp::{CommandEnds, LENIENT_ENDS};
use support::exchange::*;

use crate::submission_exchange::{Scanner, proxy_with, whole};

const HEAD: &[u8] = b"From: scan@contoso.example\r\n\r\nhello";

/// A message with another one hidden in it, and the cuts at which it may come.
struct Attempt {
    name: String,
    end: &'static [u8],
    data: Vec<u8>,
    cuts: std::ops::RangeInclusive<usize>,
}

impl Attempt {
    fn new(name: String, end: &'static [u8], before: &[u8], shown: &[u8]) -> Self {
        let smuggled = format!(
            "MAIL FROM:<{SCAN}>\r\nRCPT TO:<{SHARED}>\r\nDATA\r\nFrom: {SCAN}\r\nSubject: smuggled\r\n\r\n.\r\n"
        );
        let data = [before, shown, smuggled.as_bytes()].concat();
        Self { name, end, data, cuts: before.len().max(1)..=before.len() + shown.len() + 1 }
    }

    /// Behind a text, and where the beginning of the data stands for CRLF.
    fn all() -> Vec<Self> {
        let behind = LENIENT_ENDS.map(|(name, end)| Self::new(format!("text {name}"), end, HEAD, end));
        let first = LENIENT_ENDS
            .into_iter()
            .filter_map(|(name, end)| Some(Self::new(format!("354 {name}"), end, b"", end.strip_prefix(b"\r\n")?)));
        behind.into_iter().chain(first).collect()
    }

    /// The data in one piece, octet by octet, and in two pieces.
    fn pieces(&self) -> Vec<Vec<&[u8]>> {
        let at = |cut| <[&[u8]; 2]>::from(self.data.split_at(cut)).to_vec();
        [vec![self.data.as_slice()], self.data.chunks(1).collect()]
            .into_iter()
            .chain(self.cuts.clone().map(at))
            .collect()
    }
}

/// The server is lenient in one way at a time, and lenient with the ends of commands.
fn lenient(exchange: &Exchange, end: &[u8]) {
    exchange.quirk(|quirks| {
        quirks.smtp.also_ends_data = vec![end.to_vec()];
        quirks.smtp.command_ends = CommandEnds::BareCr;
    });
}

/// The number of commands with this verb that have reached the server.
fn count(exchange: &Exchange, verb: &str) -> usize {
    exchange.simulator.smtp_commands().iter().filter(|command| command.line.starts_with(verb)).count()
}

#[test]
fn no_odd_end_of_data_smuggles_a_message() {
    let exchange = Exchange::new();
    // packetboat lets a mailbox send 30 messages a minute, unless it is told another number.
    let proxy = proxy_with(
        &exchange,
        BY_SECRET,
        "[submission]\nmessages_per_minute = 10000\n\
         recipients_per_hour_of_device = 1000000\n",
    );
    let (mut sent, mut delivered) = (0, 0);
    for attempt in Attempt::all() {
        lenient(&exchange, attempt.end);
        let mut scanner = Scanner::log_in(&proxy);
        for pieces in attempt.pieces() {
            let answer = scanner.submit_in(&pieces);
            let what =
                format!("{} in {} pieces, the first of {}: {answer}", attempt.name, pieces.len(), pieces[0].len());
            assert!(answer.starts_with("250 "), "{what}");
            (sent, delivered) = (sent + 1, delivered + 1);
            let submissions: Vec<Submission> = exchange.simulator.submissions();
            assert_eq!((submissions.len(), exchange.simulator.messages(SHARED)), (delivered, 0), "{what}");
            whole(&submissions[delivered - 1..]);
            assert_eq!((count(&exchange, "MAIL "), count(&exchange, "DATA")), (sent, sent), "{what}");
            assert_eq!(exchange.simulator.counts().submissions.unknown_commands, 0, "{what}");
        }
        assert!(scanner.ask("QUIT").starts_with("221 "), "{}", attempt.name);
    }
}

/// The connection to the server is closed before the odd octets, and the device hears why behind the end of its data.
#[test]
fn an_odd_end_of_data_is_refused_where_that_is_configured() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "bare_line_ends = \"refuse\"\n");
    let mut sent = 0;
    for attempt in Attempt::all() {
        lenient(&exchange, attempt.end);
        for pieces in attempt.pieces().into_iter().skip(1) {
            let mut scanner = Scanner::log_in(&proxy);
            let answer = scanner.submit_in(&pieces);
            sent += 1;
            let what =
                format!("{} in {} pieces, the first of {}: {answer}", attempt.name, pieces.len(), pieces[0].len());
            assert!(answer.starts_with("550 5.6.0 "), "{what}");
            exchange.until(&what, |counts| counts.submissions.cut == sent);
            assert_eq!((exchange.simulator.submissions().len(), exchange.simulator.messages(SHARED)), (0, 0), "{what}");
            let sent = usize::try_from(sent).unwrap();
            assert_eq!((count(&exchange, "MAIL "), count(&exchange, "DATA")), (sent, sent), "{what}");
        }
    }
}
