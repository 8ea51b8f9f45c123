//! The measures of `packetboat check --online --measure`, as text and as JSON, with the advice whether to keep connections
//! to the mail server after LOGOUT.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Account, Proven};
use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::proxy::{LoginTimes, NewMail, Parking, Steps};

/// The measures of an account, with the part of the configuration that the advice is about.
pub(super) struct Measures<'a> {
    pub(super) proven: &'a Proven,
    pub(super) name: &'a str,
    pub(super) account: &'a Account,
    pub(super) pause: Duration,
    pub(super) times: &'a Result<LoginTimes, Failure>,
}

/// The advice about one account's mail server.
enum Advice {
    /// Keep connections.
    Park,
    /// Do not, for this reason.
    Leave(String),
    /// Measure again, in this way.
    Again(String),
    /// The configuration keeps connections for this time already.
    IsSet(Duration),
}

impl Measures<'_> {
    /// The lines below an account.
    pub(super) fn text(&self) -> String {
        let times = match self.times {
            Ok(times) => times,
            Err(failure) => return format!("  times  not measured: {failure}\n"),
        };
        let steps = &times.dialled;
        let mut text = format!("  times  a login takes {}: {}\n", words(steps.total()), steps_in_words(steps));
        let pause = humantime::format_duration(self.pause);
        let _ = match &times.parked {
            Parking::NoUnselect => writeln!(text, "         UNSELECT is not announced"),
            Parking::Unfit(why) => writeln!(text, "         UNSELECT is announced; on the kept connection, {why}"),
            Parking::Fit { noop, warm, mail } => writeln!(
                text,
                "         {} on a warm connection, {} on a kept one; UNSELECT is announced; {}",
                words(*warm),
                words(*noop),
                match mail {
                    NewMail::Shows => format!("mail of the last {pause} shows"),
                    NewMail::Hidden => format!("mail of the last {pause} does not show"),
                    NewMail::None => format!("no mail came within {pause}"),
                    NewMail::Unknown => "the server does not give UIDNEXT".to_owned(),
                }
            ),
        };
        match self.advice(times) {
            Advice::Leave(why) => {
                let what = if self.park().is_zero() {
                    "leave park at its default, \"0s\"".to_owned()
                } else {
                    format!("set park = \"0s\" below [upstream.{}]", self.account.upstream)
                };
                let _ = writeln!(text, "         {what}: {why}");
            }
            Advice::Again(how) => {
                let _ = writeln!(text, "         to know whether new mail shows, {how}");
            }
            Advice::IsSet(time) => {
                let time = humantime::format_duration(time);
                let _ = writeln!(text, "         park = \"{time}\" of [upstream.{}] is right", self.account.upstream);
            }
            Advice::Park => {
                let (what, lines) = self.lines();
                let _ = writeln!(text, "         {what}");
                for line in lines {
                    let _ = writeln!(text, "           {line}");
                }
            }
        }
        text
    }

    /// The same for programs. Times are in milliseconds.
    pub(super) fn json(&self) -> Value {
        let times = match self.times {
            Ok(times) => times,
            Err(failure) => return json!({ "failed": failure.to_string() }),
        };
        let steps = &times.dialled;
        let dialled = json!({
            "resolve": millis(steps.resolve),
            "connect": millis(steps.connect),
            "tls": steps.tls.map(millis),
            "greeting": steps.greeting.map(millis),
            "login": millis(steps.login),
            "total": millis(steps.total()),
        });
        let (warm, kept, mail, fault) = match &times.parked {
            Parking::NoUnselect => (None, None, None, None),
            Parking::Unfit(why) => (None, None, None, Some(why)),
            Parking::Fit { noop, warm, mail } => {
                let mail = match mail {
                    NewMail::Shows => "shows",
                    NewMail::Hidden => "hidden",
                    NewMail::None => "none",
                    NewMail::Unknown => "unknown",
                };
                (Some(millis(*warm)), Some(millis(*noop)), Some(mail), None)
            }
        };
        let (park, why) = match self.advice(times) {
            Advice::Park => (Some(PARK.to_owned()), None),
            Advice::IsSet(time) => (Some(humantime::format_duration(time).to_string()), None),
            Advice::Leave(why) | Advice::Again(why) => (None, Some(why)),
        };
        json!({
            "dialled_ms": dialled,
            "warm_ms": warm,
            "kept_ms": kept,
            "unselect": times.parked != Parking::NoUnselect,
            "pause_s": self.pause.as_secs_f64(),
            "new_mail": mail,
            "fault": fault,
            "advice": { "upstream": self.account.upstream, "park": park, "why": why },
        })
    }

    fn advice(&self, times: &LoginTimes) -> Advice {
        let (noop, mail) = match &times.parked {
            Parking::NoUnselect => return Advice::Leave("without UNSELECT a session cannot end and go on".to_owned()),
            Parking::Unfit(why) => return Advice::Leave(format!("the server did not keep the connection; {why}")),
            Parking::Fit { noop, mail, .. } => (*noop, *mail),
        };
        let saved = times.dialled.total().saturating_sub(noop);
        match mail {
            NewMail::Hidden => Advice::Leave("devices would not see new mail in time".to_owned()),
            NewMail::Unknown => Advice::Leave("without UIDNEXT nothing shows whether new mail is hidden".to_owned()),
            _ if saved < WORTH => Advice::Leave(format!("a kept connection would save only {} a login", words(saved))),
            NewMail::Shows if !self.park().is_zero() => Advice::IsSet(self.park()),
            NewMail::Shows => Advice::Park,
            NewMail::None => Advice::Again(format!(
                "send a message to {} while this runs: packetboat check --online --account {} --measure=5m",
                self.account.mailbox, self.name
            )),
        }
    }

    /// The time for which the configuration keeps connections.
    fn park(&self) -> Duration {
        self.proven.config.upstreams.get(&self.account.upstream).map(|upstream| upstream.park).unwrap_or_default()
    }

    /// The place in the configuration, and the lines to add there.
    fn lines(&self) -> (String, Vec<String>) {
        let upstream = &self.account.upstream;
        let file = self.proven.file().display();
        let park = format!("park = \"{PARK}\"");
        if self.proven.is_written(&format!("upstream.{upstream}")) {
            return (format!("add below [upstream.{upstream}] in {file}:"), vec![park]);
        }
        let endpoint = self.proven.config.upstreams.get(upstream).and_then(|one| one.endpoint(Protocol::Imap));
        let host = endpoint.map(|one| format!("host = \"{}\"", one.host)).unwrap_or_default();
        (format!("add at the end of {file}:"), vec![format!("[upstream.{upstream}]"), host, park])
    }
}

fn steps_in_words(steps: &Steps) -> String {
    let mut all = vec![("name", Some(steps.resolve)), ("TCP", Some(steps.connect)), ("TLS", steps.tls)];
    all.extend([("greeting", steps.greeting), ("LOGIN to OK", Some(steps.login))]);
    let all = all.into_iter().filter_map(|(name, time)| Some(format!("{name} {}", words(time?))));
    all.collect::<Vec<_>>().join(", ")
}

/// A time with as many digits as people need.
fn words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time that the advice names: below the 30 minutes after which servers close idle sessions.
const PARK: &str = "5m";
/// The time that has to be saved by a login before connections are worth keeping.
const WORTH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    const FILE: &str = "state_directory = \"/var/lib/packetboat\"\n[identity.office]\ntenant = \"contoso.example\"\n\
                        client_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/s\"\n\
                        [account.scans]\nmailbox = \"scans@contoso.example\"\n";
    const OWN: &str = "[upstream.exchange]\nhost = \"outlook.office365.com\"\n";

    fn times(login: u64, noop: u64, mail: NewMail) -> LoginTimes {
        let ms = Duration::from_millis;
        let (resolve, connect, tls, greeting) = (ms(1), ms(2), Some(ms(3)), Some(ms(4)));
        LoginTimes {
            dialled: Steps { resolve, connect, tls, greeting, login: ms(login) },
            parked: Parking::Fit { noop: ms(noop), warm: ms(login), mail },
        }
    }

    fn text(file: &str, times: LoginTimes) -> String {
        let proven = Config::parse(file, Path::new("packetboat.toml")).unwrap_or_else(|found| panic!("{found:?}"));
        let account = &proven.config.accounts["scans"];
        let pause = Duration::from_secs(60);
        Measures { proven: &proven, name: "scans", account, pause, times: &Ok(times) }.text()
    }

    #[test]
    fn what_is_saved_decides() {
        for (login, noop, is_advised) in [(5000, 20, true), (110, 20, true), (109, 20, false), (5000, 4950, false)] {
            let text = text(FILE, times(login, noop, NewMail::Shows));
            assert_eq!(text.contains("park = \"5m\""), is_advised, "{text}");
            assert_ne!(text.contains("would save only "), is_advised, "{text}");
        }
        let text = text(FILE, times(5190, 20, NewMail::Shows));
        assert!(text.starts_with(
            "  times  a login takes 5.2 s: name 1 ms, TCP 2 ms, TLS 3 ms, greeting 4 ms, LOGIN to OK 5.2 s\n         \
             5.2 s on a warm connection, 20 ms on a kept one; UNSELECT is announced; mail of the last 1m shows\n"
        ));
    }

    #[test]
    fn the_lines_fit_the_file() {
        let lines = |file: &str| -> String {
            let text = text(file, times(5000, 20, NewMail::Shows));
            text.lines().filter_map(|line| line.strip_prefix("           ")).map(|line| format!("{line}\n")).collect()
        };
        let of_own = lines(&format!("{FILE}{OWN}"));
        assert_eq!(of_own, "park = \"5m\"\n");
        let supplied = lines(FILE);
        assert_eq!(supplied, format!("{OWN}park = \"5m\"\n"));
        // The lines work, and are not advised again.
        for file in [format!("{FILE}{OWN}{of_own}"), format!("{FILE}{supplied}")] {
            assert!(
                text(&file, times(5000, 20, NewMail::Shows))
                    .ends_with("park = \"5m\" of [upstream.exchange] is right\n")
            );
            let hidden = text(&file, times(5000, 20, NewMail::Hidden));
            assert!(
                hidden.contains("set park = \"0s\" below [upstream.exchange]: devices would not see new mail"),
                "{hidden}"
            );
        }
    }
}
