//! These tests prove that the simulator takes an odd end of data for the end only where it is asked to, and that its
//! log tells messages and commands apart.

use packetboat::simulator::Defect;
use packetboat::simulator::quirks::smtp::{CommandEnds, LENIENT_ENDS};

use super::scene::*;

const HEAD: &[u8] = b"From: scan@contoso.example\r\n\r\nhello";

/// A message with another one behind an odd end.
fn smuggled(end: &[u8]) -> Vec<u8> {
    let inner = format!(
        "MAIL FROM:<{SCAN}>\r\nRCPT TO:<{OTHER}>\r\nDATA\r\nFrom: scan@contoso.example\r\nSubject: smuggled\r\n\r\n.\r\n"
    );
    [HEAD, end, inner.as_bytes()].concat()
}

/// The number of MAIL commands that the server has seen.
fn transactions(scene: &Scene) -> usize {
    scene.simulator.smtp_commands().iter().filter(|command| command.line.starts_with("MAIL ")).count()
}

#[test]
fn a_strict_server_sees_one_message() {
    let scene = Scene::new();
    scene.quirk(|quirks| quirks.smtp.bounces_bare_lf = false);
    for (before, (name, end)) in LENIENT_ENDS.into_iter().enumerate() {
        let mut smtp = scene.smtp_session();
        assert!(smtp.submit(SCAN, &[SCAN], &smuggled(end)).starts_with("250 "), "{name}");
        assert!(smtp.smtp("QUIT").starts_with("221 "), "{name}");
        assert_eq!((scene.simulator.messages(SCAN), scene.simulator.messages(OTHER)), (before + 1, 0), "{name}");
        assert_eq!(transactions(&scene), before + 1, "{name}");
        let defects = scene.simulator.submissions().remove(before).defects();
        let is_odd =
            |one: &Defect| matches!(one, Defect::BareLf(_) | Defect::BareCr(_) | Defect::Nul(_) | Defect::SingleDot(_));
        assert!(defects.iter().any(is_odd), "the checker sees that {name} is odd: {defects:?}");
    }
}

#[test]
fn a_lenient_server_sees_two() {
    let scene = Scene::new();
    for (before, (name, end)) in LENIENT_ENDS.into_iter().enumerate() {
        scene.quirk(|quirks| {
            quirks.smtp.also_ends_data = vec![end.to_vec()];
            quirks.smtp.bounces_bare_lf = false;
        });
        let mut smtp = scene.smtp_session();
        assert!(smtp.submit(SCAN, &[SCAN], &smuggled(end)).starts_with("250 "), "{name}");
        let submissions = scene.runtime.block_on(scene.simulator.until_submissions(2 * before + 2));
        assert!(submissions[2 * before].defects().contains(&Defect::OddEnd(end.to_vec())), "{name}");
        assert_eq!((scene.simulator.messages(OTHER), transactions(&scene)), (before + 1, 2 * before + 2), "{name}");
    }
}

#[test]
fn exchange_returns_a_message_with_a_bare_lf() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    assert!(smtp.submit(SCAN, &[OTHER], &[HEAD, b"\nbare\r\n.\r\n"].concat()).starts_with("250 "));
    assert_eq!(scene.simulator.messages(OTHER), 0);
    let report = String::from_utf8(scene.simulator.contents(SCAN).remove(0)).unwrap();
    assert!(report.contains("\r\n550 5.6.11 "), "{report}");
}

#[test]
fn command_lines_end_as_configured() {
    let scene = Scene::new();
    let mut smtp = scene.smtp_session();
    smtp.send_octets(b"NOOP\nRSET\r\n");
    assert!(smtp.reply().starts_with("500 5.3.3 "), "a bare LF ends no command");
    scene.quirk(|quirks| quirks.smtp.command_ends = CommandEnds::BareLf);
    smtp.send_octets(b"NOOP\nRSET\r\n");
    assert_eq!([smtp.reply(), smtp.reply()], ["250 2.0.0 OK", "250 2.0.0 Resetting"]);
    scene.quirk(|quirks| quirks.smtp.command_ends = CommandEnds::BareCr);
    smtp.send_octets(b"NOOP\rRSET\nNOOP\r\n");
    assert_eq!([smtp.reply(), smtp.reply(), smtp.reply()], ["250 2.0.0 OK", "250 2.0.0 Resetting", "250 2.0.0 OK"]);
    let commands = scene.simulator.smtp_commands();
    assert!(commands.iter().any(|command| command.line == "NOOP\nRSET"), "{commands:?}");
}
