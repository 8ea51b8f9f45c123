//! Tests of the content of messages: against a slow reference, and against servers that are lenient in every known way.

mod head;
mod lenient;
mod reference;

use std::sync::Arc;

use super::*;
use lenient::Server;
use reference::reference;

/// All that became of the octets of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// The octets that went up.
    up: Vec<u8>,
    /// The octets behind the end of the data.
    rest: Vec<u8>,
    is_complete: bool,
    refusal: Option<Refusal>,
}

/// The steps that it took.
#[derive(Debug, Default)]
pub(super) struct Steps {
    forwarded: usize,
    consumed: usize,
    steps: usize,
}

/// Hands over the pieces one by one, as the driver does.
pub(super) fn pass(content: &mut Content, pieces: &[&[u8]]) -> (Passage, Steps) {
    let (mut unread, mut up, mut out, mut steps) = (Vec::new(), Vec::new(), Vec::new(), Steps::default());
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let step = content.recv(&unread, &mut out);
            assert!(content.refusal().is_none() || out.is_empty(), "nothing goes up once the message is refused");
            steps.steps += 1;
            let has_written = !out.is_empty();
            up.append(&mut out);
            let count = match step {
                Step::Forward(count) => {
                    up.extend_from_slice(&unread[..count]);
                    steps.forwarded += count;
                    count
                }
                Step::Consume(count) => {
                    steps.consumed += count;
                    count
                }
                Step::Read => break,
                other => panic!("{other:?}"),
            };
            assert!(count > 0 || has_written, "a step that changes nothing");
            unread.drain(..count);
        }
    }
    let refusal = content.refusal().cloned();
    (Passage { up, rest: unread, is_complete: content.is_complete(), refusal }, steps)
}

fn rules(bare_line_ends: BareLineEnds, lf_end_of_data: bool) -> Arc<Rules> {
    Arc::new(Rules { bare_line_ends, lf_end_of_data, sender: None })
}

fn passage(rules: &Arc<Rules>, pieces: &[&[u8]]) -> Passage {
    pass(&mut Content::new(Arc::clone(rules), STAMP), pieces).0
}

/// Checks a conversation at every cut into two, and octet by octet.
fn check(rules: &Arc<Rules>, input: &[u8]) -> Passage {
    let whole = passage(rules, &[input]);
    let octets: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(passage(rules, &octets), whole, "octet by octet: {:?}", String::from_utf8_lossy(input));
    for cut in 1..input.len() {
        let (one, other) = input.split_at(cut);
        assert_eq!(passage(rules, &[one, other]), whole, "cut at {cut}: {:?}", String::from_utf8_lossy(input));
    }
    whole
}

/// The message is one message, to every server.
fn is_one_message(passage: &Passage, input: &[u8]) {
    assert!(passage.is_complete, "{:?}", String::from_utf8_lossy(input));
    for server in Server::ALL {
        let ends = server.ends_of_data(&passage.up);
        assert_eq!(
            ends,
            [passage.up.len()],
            "{server:?} in {:?} from {:?}",
            String::from_utf8_lossy(&passage.up),
            String::from_utf8_lossy(input)
        );
    }
}

/// The sequences of the public research on SMTP smuggling, and their relatives.
const SEQUENCES: [&[u8]; 26] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\r\n\n.\r\n",
    b"\n..\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\r\n",
    b"\r\n\0.\0\r\n",
    b"\r\0\n.\r\0\n",
    b"\r\n.\r\0\n",
    b"\r\n.\0.\r\n",
    b"\n.\0\n",
    b"\0\n.\n\0",
    b"\r\n..\n.\n",
    b"\n\n.\n\n",
    b"\r\n.\n.\r\n.\n",
    b"\n.\r\n.\r.\r\n",
    b"\r\n.a\n.\n",
    b"\n\r.\n\r",
];
const STAMP: Stamp = Stamp { seconds: 1_795_826_100, id: [0xa5; 16] };
const SECOND: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi";
const END: &[u8] = b"\r\n.\r\n";

#[test]
fn no_sequence_smuggles_a_second_message() {
    let rules = rules(BareLineEnds::Repair, false);
    for sequence in SEQUENCES {
        for before in [&b"Subject: x\r\n\r\nfirst"[..], b"", b"x"] {
            let input = [before, sequence, SECOND, sequence, END, b"QUIT\r\n"].concat();
            let passage = check(&rules, &input);
            is_one_message(&passage, &input);
            assert_eq!(passage.rest, b"QUIT\r\n");
        }
    }
}

#[test]
fn no_sequence_smuggles_at_any_two_cuts() {
    let rules = rules(BareLineEnds::Repair, false);
    for sequence in SEQUENCES {
        let input = [b"x", sequence, b"QUIT", sequence, END, b"RSET\r\n"].concat();
        let whole = passage(&rules, &[&input]);
        is_one_message(&whole, &input);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(passage(&rules, &pieces), whole, "{first}, {second}: {input:?}");
            }
        }
    }
}

/// CR CR LF is a bare CR and CRLF, and so a dot behind it begins a line.
#[test]
fn a_bare_cr_in_front_of_crlf_hides_no_end() {
    let passage = check(&rules(BareLineEnds::Repair, false), b"x\r\r\n.\r\nQUIT\r\n");
    is_one_message(&passage, b"x");
    assert_eq!((&passage.up[..], &passage.rest[..]), (&b"x\r\n\r\n.\r\n"[..], &b"QUIT\r\n"[..]));
}

/// All strings of six octets that matter, and what follows them.
#[test]
fn every_short_string_passes_as_the_reference_has_it() {
    let rules = [rules(BareLineEnds::Repair, false), rules(BareLineEnds::Repair, true)];
    for number in 0..5_usize.pow(6) {
        let octet = |at: u32| b"\r\n.\0a"[number / 5_usize.pow(at) % 5];
        let input = [(0..6).map(octet).collect::<Vec<u8>>().as_slice(), b"\r\n.\r\n.\r\n"].concat();
        for (rules, lf_end_of_data) in rules.iter().zip([false, true]) {
            let (up, len) = reference(&input, lf_end_of_data).unwrap();
            let octets: Vec<&[u8]> = input.chunks(1).collect();
            for pieces in [vec![input.as_slice()], octets] {
                let passage = passage(rules, &pieces);
                assert_eq!((&passage.up, &passage.rest[..]), (&up, &input[len..]), "{input:?}");
                is_one_message(&passage, &input);
            }
        }
    }
}

/// The sequences at every octet around the edges of the blocks that are looked at together.
#[test]
fn no_sequence_smuggles_anywhere_in_a_long_message() {
    let rules = rules(BareLineEnds::Repair, false);
    let long = b"a line of a message, which is repeated\r\n".repeat(40);
    for sequence in SEQUENCES {
        for at in (500..530).chain(1015..1030) {
            let input = [&long[..at], sequence, &long[at..], b".\r\nQUIT\r\n"].concat();
            let (up, len) = reference(&input, false).unwrap();
            let whole = passage(&rules, &[&input]);
            assert!((&whole.up, &whole.rest[..]) == (&up, &input[len..]), "{at}: {sequence:?}");
            is_one_message(&whole, sequence);
            for cut in [505, at, at + 1, at + 2] {
                assert!(passage(&rules, &[&input[..cut], &input[cut..]]) == whole, "{at}, {cut}: {sequence:?}");
            }
        }
    }
}

#[test]
fn random_conversations_pass_as_the_reference_has_it() {
    let mut random = Random(0x5317_0001);
    let clean = b"forty-two octets of a message, and CRLF.\r\n".repeat(30);
    let words: [&[u8]; 13] =
        [b"\r\n", b"\r\n", b"\r\n", &clean, b"\n", b"\r", b".", b"..", b"\0", b"word", b"\xff\xfe", b" ", b"\r\n.\r\n"];
    for seed in 0..600 {
        let lf_end_of_data = seed % 2 == 0;
        // Some conversations have no CRLF before their end.
        let from = if seed % 5 == 0 { 4 } else { 0 };
        let mut input = Vec::new();
        for _ in 0..random.below(100) {
            input.extend_from_slice(words[from + random.below(12 - from)]);
        }
        input.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
        let (up, len) = reference(&input, lf_end_of_data).unwrap();
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let most = [60, 3000][random.below(2)];
            let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(most)));
            pieces.push(piece);
            rest = behind;
        }
        let passage = passage(&rules(BareLineEnds::Repair, lf_end_of_data), &pieces);
        assert_eq!((&passage.up, &passage.rest[..]), (&up, &input[len..]), "{seed}: {input:?}");
        is_one_message(&passage, &input);
    }
}

#[test]
fn a_clean_message_is_forwarded_octet_for_octet() {
    let line = b"..the swift brown fox jumps over the lazy dog, and so on for a while\r\n";
    let input = [&b"Subject: x\r\n\r\n"[..], &line.repeat(2000), b"\x80\xff\0 8-bit\r\n.\r\n"].concat();
    let mut content = Content::new(rules(BareLineEnds::Repair, false), STAMP);
    let (passage, steps) = pass(&mut content, &input.chunks(16 * 1024).collect::<Vec<_>>());
    assert_eq!((passage.up, passage.is_complete), (input.clone(), true));
    assert_eq!((steps.forwarded, steps.consumed), (input.len(), 0));
    // For each record a span, and the wait behind it.
    assert!(steps.steps <= 2 * input.len().div_ceil(16 * 1024) + 1, "{steps:?}");
}

#[test]
fn megabytes_without_a_line_end_are_forwarded() {
    let record = vec![b'x'; 16 * 1024];
    let mut content = Content::new(rules(BareLineEnds::Repair, false), STAMP);
    let mut out = Vec::new();
    for _ in 0..6400 {
        assert!(matches!(content.recv(&record, &mut out), Step::Forward(count) if count == record.len()));
    }
    assert!(out.is_empty());
    assert!(matches!(content.recv(END, &mut out), Step::Forward(5)));
    assert!(content.is_complete());
}

/// A message without CRLF takes a step for each record, not one for each line.
#[test]
fn a_message_with_lf_alone_is_gathered() {
    let input = [&b"a line of text, and LF\n".repeat(10_000)[..], END].concat();
    let mut content = Content::new(rules(BareLineEnds::Repair, false), STAMP);
    let (passage, steps) = pass(&mut content, &[&input]);
    assert_eq!(passage.up, [&b"a line of text, and LF\r\n".repeat(10_000)[..], END].concat());
    assert!(steps.steps < 2 * input.len() / (16 * 1024) + 4, "{steps:?}");
}

/// Behind a single bare LF a message is forwarded again, at once.
#[test]
fn one_bare_lf_is_copied_alone() {
    let clean = b"a line of text, and CRLF\r\n".repeat(10_000);
    let input = [&clean, &b"bare\n"[..], &clean, b".\r\n"].concat();
    let (passage, steps) = pass(&mut Content::new(rules(BareLineEnds::Repair, false), STAMP), &[&input]);
    assert_eq!(passage.up, [&clean, &b"bare\r\n"[..], &clean, b".\r\n"].concat());
    assert!(steps.consumed < 2100, "{steps:?}");
}

#[test]
fn a_message_with_bare_line_ends_is_refused_to_its_end() {
    let rules = rules(BareLineEnds::Refuse, false);
    for sequence in SEQUENCES.into_iter().chain([&b"\0"[..], b"x\0", b"\n", b"\r", b"\r\r\n"]) {
        let input = [b"Subject: x\r\n\r\nx", sequence, b"QUIT\r\n", END, b"RSET\r\n"].concat();
        let passage = check(&rules, &input);
        assert_eq!((passage.refusal, passage.is_complete), (Some(Refusal::BareLineEnd), true), "{sequence:?}");
        assert_eq!(passage.rest, b"RSET\r\n");
        // The server has seen no end of the data, whatever it takes for one.
        for server in Server::ALL {
            assert!(server.ends_of_data(&passage.up).is_empty(), "{server:?} {:?}", passage.up);
        }
    }
    assert!(Refusal::BareLineEnd.reply().starts_with("550 5.6.0 "));
    let clean = b"Subject: x\r\n\r\n..\r\n.x\r\n\xff\r\n.\r\n";
    assert_eq!(check(&rules, clean), Passage { up: clean.into(), rest: vec![], is_complete: true, refusal: None });
}

#[test]
fn lf_ends_the_data_of_a_device_without_crlf_by_the_quirk_alone() {
    let (with, without) = (rules(BareLineEnds::Repair, true), rules(BareLineEnds::Repair, false));
    let message = b"Subject: x\n\ntext\n.\n";
    let passage = check(&with, &[&message[..], b"QUIT\n"].concat());
    assert_eq!((passage.up.as_slice(), &passage.rest[..]), (&b"Subject: x\r\n\r\ntext\r\n.\r\n"[..], &b"QUIT\n"[..]));
    is_one_message(&passage, message);
    assert!(!check(&without, message).is_complete);
    assert!(check(&with, b".\n").is_complete);
    // One CRLF before it, and only CRLF.CRLF ends the data.
    let passage = check(&with, b"Subject: x\r\n\ntext\n.\nQUIT\n");
    assert!(!passage.is_complete);
    assert!(passage.rest.is_empty());
}

/// Random numbers that are the same on every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
