//! The client as an old scanner that sends: EHLO or HELO, a login in one of the forms of devices, and a message.

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Conversation, Exchange, FetchError};

/// A message that a scanner sends, with the form of its login.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The command with which it greets.
    pub hello: Hello,
    /// The name in that command, as `scanner` or `[192.168.1.21]`; some devices have none.
    pub name: &'a str,
    /// The login; none for a device that cannot log in.
    pub login: Option<Login<'a>>,
    /// The sender of the envelope.
    pub sender: &'a str,
    /// The recipients of the envelope.
    pub recipients: &'a [&'a str],
    /// The message, with lines that end in CRLF.
    pub message: &'a [u8],
}

/// The command with which a device greets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// EHLO.
    Ehlo,
    /// HELO, behind which there is no login.
    Helo,
}

/// A login of a device.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// The form of the login.
    pub form: LoginForm,
    /// The user name.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

/// The form of a login (RFC 4954 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginForm {
    /// `AUTH LOGIN`, and two prompts.
    Login,
    /// `AUTH LOGIN` with the user name, and one prompt.
    LoginWithName,
    /// `AUTH PLAIN`, and an empty challenge.
    Plain,
    /// `AUTH PLAIN` with the response.
    PlainAtOnce,
}

impl LoginForm {
    /// Every form.
    pub const ALL: [LoginForm; 4] =
        [LoginForm::Login, LoginForm::LoginWithName, LoginForm::Plain, LoginForm::PlainAtOnce];
}

/// Sends a message, as a device does, and says QUIT.
///
/// # Errors
/// The server refused a command, or speaks another protocol; the error holds command and answer.
pub async fn submit<S>(stream: S, job: &Job<'_>) -> Result<Vec<Exchange>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation::new(stream);
    let greeting = conversation.reply("").await?;
    if !greeting.starts_with("220") {
        return Err(FetchError::Greeting(greeting));
    }
    let hello = if job.hello == Hello::Ehlo { "EHLO" } else { "HELO" };
    conversation.smtp(&format!("{hello} {}", job.name)).await?;
    if let Some(login) = &job.login {
        conversation.log_in(login).await?;
    }
    conversation.smtp(&format!("MAIL FROM:<{}>", job.sender)).await?;
    for recipient in job.recipients {
        conversation.smtp(&format!("RCPT TO:<{recipient}>")).await?;
    }
    conversation.smtp("DATA").await?;
    conversation.stream.write_all(&stuffed(job.message)).await?;
    conversation.stream.flush().await?;
    conversation.reply(&format!("({} octets and the dot)", job.message.len())).await?;
    conversation.smtp("QUIT").await?;
    Ok(conversation.exchanges)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    async fn smtp(&mut self, command: &str) -> Result<(), FetchError> {
        self.send(command).await?;
        self.reply(command).await?;
        Ok(())
    }

    /// Sends a line with a secret, which is recorded in other words.
    async fn smtp_secret(&mut self, line: &str, shown: &str) -> Result<(), FetchError> {
        self.send(line).await?;
        self.reply(shown).await?;
        Ok(())
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), FetchError> {
        let (user, password) = (STANDARD.encode(login.user), STANDARD.encode(login.password));
        let plain = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
        match login.form {
            LoginForm::Login => {
                self.smtp("AUTH LOGIN").await?;
                self.smtp_secret(&user, &format!("(the user name {})", login.user)).await?;
                self.smtp_secret(&password, "(the password ****)").await
            }
            LoginForm::LoginWithName => {
                self.smtp(&format!("AUTH LOGIN {user}")).await?;
                self.smtp_secret(&password, "(the password ****)").await
            }
            LoginForm::Plain => {
                self.smtp("AUTH PLAIN").await?;
                self.smtp_secret(&plain, &format!("(the user name {} and the password ****)", login.user)).await
            }
            LoginForm::PlainAtOnce => self.smtp_secret(&format!("AUTH PLAIN {plain}"), "AUTH PLAIN ****").await,
        }
    }

    /// Reads a response of one or more lines (RFC 5321 §4.2.1), and records it.
    async fn reply(&mut self, shown: &str) -> Result<String, FetchError> {
        let mut answer = String::new();
        loop {
            let line = self.line().await?;
            answer.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                let is_ok = answer.starts_with(['2', '3']) || shown.is_empty();
                return self.record(shown.to_owned(), answer, is_ok);
            }
            answer.push('\n');
        }
    }
}

/// The message with doubled dots, and the end of the data (RFC 5321 §4.5.2).
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::client::tests::scripted;

    #[tokio::test]
    async fn a_scan_without_the_password() {
        let answers = "220 hello\r\n250-a\r\n250 AUTH LOGIN PLAIN\r\n334 x\r\n334 y\r\n235 in\r\n250 1\r\n250 2\r\n\
                       354 go\r\n250 got\r\n221 bye\r\n";
        for form in LoginForm::ALL {
            let challenges = match form {
                LoginForm::Login => answers.to_owned(),
                LoginForm::LoginWithName | LoginForm::Plain => answers.replace("334 y\r\n", ""),
                LoginForm::PlainAtOnce => answers.replace("334 x\r\n334 y\r\n", ""),
            };
            let login = Login { form, user: "scan", password: "hunter2" };
            let job = Job {
                hello: Hello::Ehlo,
                name: "scanner",
                login: Some(login),
                sender: "a@b",
                recipients: &["c@d"],
                message: b"Subject: x\r\n\r\n.\r\n",
            };
            let (exchanges, commands) = scripted(&challenges, |device| async move { submit(device, &job).await }).await;
            let exchanges = exchanges.unwrap();
            assert_eq!(exchanges[1].answer, "250-a\n250 AUTH LOGIN PLAIN");
            assert!(!format!("{exchanges:?}").contains("hunter"), "{exchanges:?}");
            let tail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n";
            assert!(commands.ends_with(tail), "{commands}");
            assert!(commands.starts_with("EHLO scanner\r\nAUTH "), "{commands}");
        }
    }

    #[tokio::test]
    async fn a_refusal_ends_the_session() {
        let job = Job { hello: Hello::Helo, name: "", login: None, sender: "a@b", recipients: &[], message: b"" };
        let answers = "220 hello\r\n250 hi\r\n530 5.7.0 log in first\r\n";
        let (exchanges, commands) = scripted(answers, |device| async move { submit(device, &job).await }).await;
        assert_eq!(exchanges.unwrap_err().to_string(), "MAIL FROM:<a@b> was answered: 530 5.7.0 log in first");
        assert_eq!(commands, "HELO \r\nMAIL FROM:<a@b>\r\n");
        let (exchanges, _) =
            scripted("554 no\r\n", |device| async move { submit(device, &job_of_nobody()).await }).await;
        assert_eq!(exchanges.unwrap_err().to_string(), "greeted with: 554 no");
    }

    fn job_of_nobody() -> Job<'static> {
        Job { hello: Hello::Ehlo, name: "x", login: None, sender: "", recipients: &[], message: b"" }
    }
}
