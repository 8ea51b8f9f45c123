//! This file drives a headless Chromium for tests through Debian's chromedriver (W3C WebDriver over plain HTTP on
//! loopback).
//!
//! It panics with what went wrong, as test support may. The session, Chromium and chromedriver end on drop.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser with one window and a new profile, which reaches only this machine.
pub struct Browser {
    driver: Child,
    port: u16,
    /// The path of the session: `/session/<id>`.
    session: String,
    /// Chromium's own process, which is killed if the session does not end it.
    chromium: Option<u64>,
    /// Profile, home and downloads; removed after everything has ended.
    directory: TempDir,
}

impl Browser {
    /// Starts chromedriver and through it Chromium, with a viewport of 1280 by 900 and light colours.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("browser-").tempdir().unwrap();
        for name in ["profile", "downloads"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        // chromedriver lets the system choose a port for IPv4, and gives up where the same one is in use for IPv6.
        let (driver, port) =
            (0..ATTEMPTS).find_map(|_| start_driver(directory.path())).expect("chromedriver finds no free port");
        // From this line on, a drop ends the process, whatever fails.
        let mut browser = Self { driver, port, session: String::new(), chromium: None, directory };

        let profile = browser.directory.path().join("profile");
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let options = json!({
            "binary": CHROMIUM,
            "args": arguments,
            "prefs": { "download.default_directory": browser.downloads(), "download.prompt_for_download": false },
        });
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let answer =
            browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": capabilities } })).unwrap();
        browser.session = format!("/session/{}", answer["sessionId"].as_str().expect("a session id"));
        browser.chromium = answer["capabilities"]["goog:processID"].as_u64();
        browser
            .cdp("Browser.setDownloadBehavior", &json!({ "behavior": "allow", "downloadPath": browser.downloads() }));
        browser.resize(1280, 900);
        browser.dark(false);
        browser
    }

    /// Goes to an address and waits until its document has loaded.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// The value of one JavaScript expression; a promise is awaited. Several statements go into `(() => { ... })()`.
    pub fn evaluate(&self, expression: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": format!("return ({expression});"), "args": [] }))
    }

    /// Asks for an expression until its value is truthy in JavaScript's sense, and returns that value.
    ///
    /// After 60 seconds it panics with `what`, the text of the page, and the console.
    pub fn wait_for(&self, what: &str, expression: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.evaluate(expression);
            if truthy(&value) {
                return value;
            }
            if Instant::now() > end {
                let page = self.evaluate("document.body.innerText.slice(0, 3000)");
                panic!("{what}: not within {PATIENCE:?}, but {value}\n{page:#}\nconsole: {:#?}", self.console());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks the first element that the selector finds, scrolled into view, as the mouse would.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.command("POST", &format!("{element}/click"), &json!({}));
    }

    /// Replaces the text of an input by this one, key by key. `\u{e007}` is Enter, `\u{e004}` Tab.
    pub fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.command("POST", &format!("{element}/clear"), &json!({}));
        self.command("POST", &format!("{element}/value"), &json!({ "text": text }));
    }

    /// Sends keys to the element that has the focus, as a person without a mouse does.
    pub fn press(&self, keys: &str) {
        let focused = self.command("GET", "/element/active", &Value::Null);
        let element = format!("/element/{}", focused[ELEMENT].as_str().expect("an element"));
        self.command("POST", &format!("{element}/value"), &json!({ "text": keys }));
    }

    /// Writes a screenshot of the window to a PNG file.
    pub fn screenshot(&self, path: impl AsRef<Path>) {
        let png = self.cdp("Page.captureScreenshot", &json!({ "format": "png" }));
        fs::write(path, base64(png["data"].as_str().expect("an image"))).unwrap();
    }

    /// Gives the page a viewport of this size; below 700 pixels it behaves as on a phone.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
    }

    /// The value of `prefers-color-scheme`.
    pub fn dark(&self, dark: bool) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    /// The directory that downloads go to.
    pub fn downloads(&self) -> PathBuf {
        self.directory.path().join("downloads")
    }

    /// Waits until a download of this name is complete, and returns its content.
    pub fn downloaded(&self, name: &str) -> Vec<u8> {
        let path = self.downloads().join(name);
        let end = Instant::now() + PATIENCE;
        // Chromium writes to a name of its own, and renames at the end.
        while !path.exists() {
            assert!(Instant::now() < end, "{name}: not downloaded within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(50));
        }
        fs::read(path).unwrap()
    }

    /// The console's messages since the last call: errors of scripts, refusals by the content security
    /// policy, requests that failed.
    pub fn console(&self) -> Vec<String> {
        let lines = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().expect("a list of log lines");
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Sends a command of the DevTools protocol, which WebDriver lacks.
    pub fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The path of the first element that the selector finds.
    fn element(&self, css: &str) -> String {
        let found = self.command("POST", "/element", &json!({ "using": "css selector", "value": css }));
        format!("/element/{}", found[ELEMENT].as_str().expect("an element"))
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, &format!("{}{path}", self.session), body);
        answer.unwrap_or_else(|error| panic!("{method} {path} {body}: {error}"))
    }

    /// Sends one request on a new connection; returns the `value` of the answer, or the error in it.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let (status, answer) = exchange(self.port, method, path, body).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        if status == 200 { Ok(value) } else { Err(format!("{}: {}", value["error"], value["message"])) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let ended = !self.session.is_empty() && self.ask("DELETE", &self.session, &Value::Null).is_ok();
        if let (false, Some(chromium)) = (ended, self.chromium) {
            let _ = Command::new("kill").args(["-9", &chromium.to_string()]).status();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Starts chromedriver, and returns it with its port; `None` where it found no port that is free.
fn start_driver(home: &Path) -> Option<(Child, u16)> {
    let mut driver = Command::new(CHROMEDRIVER)
        .arg("--port=0")
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("XDG_CACHE_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{CHROMEDRIVER} (package chromium-driver): {error}"));
    match announced_port(&mut driver) {
        Ok(port) => Some((driver, port)),
        Err(said) => {
            let _ = driver.kill();
            let _ = driver.wait();
            assert!(said.contains("port not available"), "chromedriver says no port, but: {said}");
            None
        }
    }
}

/// Reads chromedriver's output up to the line with its port, and starts a thread that discards the rest. Returns what it
/// said if there is no such line.
fn announced_port(driver: &mut Child) -> Result<u16, String> {
    let mut output = BufReader::new(driver.stdout.take().expect("a piped output"));
    let mut said = String::new();
    loop {
        let begin = said.len();
        let more = output.read_line(&mut said).unwrap_or(0);
        if let Some((_, port)) = said[begin..].split_once("started successfully on port ") {
            let port = port.trim().trim_end_matches('.').parse().map_err(|_| said.clone())?;
            thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return Ok(port);
        }
        if more == 0 {
            return Err(said);
        }
    }
}

/// HTTP/1.1 as far as chromedriver needs it: one request, and an answer with a `Content-Length`.
fn exchange(port: u16, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Vec<u8>)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {line:?}")))?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok((status, answer))
}

/// Whether JavaScript treats the value as true.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// Decodes the standard alphabet (RFC 4648, section 4), which images come in.
fn base64(text: &str) -> Vec<u8> {
    let (mut bits, mut held, mut decoded) = (0_u32, 0, Vec::with_capacity(text.len() / 4 * 3));
    for letter in text.bytes().take_while(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("not base64"),
        };
        bits = (bits << 6 | u32::from(value)) & 0xf_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held & 0xff) as u8);
        }
    }
    decoded
}

const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";
/// The number of ports that chromedriver is let try.
const ATTEMPTS: usize = 5;

/// The longest time that a page may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name under which WebDriver passes an element (W3C WebDriver, section 12, "web element identifier").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const ARGUMENTS: [&str; 13] = [
    "--headless",
    // The tests may run as root, where Chromium has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    // /dev/shm is small in containers.
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
    // Chromium uses loopback only: no proxy, and no name lookups.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];
