//! Devices and accounts that commands add, change and remove while the proxy runs: it serves them at once, and no more.

use std::fs;
use std::process::{Command, Stdio};

use packetboat::config::Config;
use packetboat::simulator::User;

use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD, Ran, SCAN, account, mode};
use support::process::program;
use support::proxy::Proxy;

const FAX: &str = "fax@contoso.example";

/// A simulator with two mailboxes, and a proxy whose only device opens the first.
fn start() -> (Exchange, Proxy) {
    let exchange = Exchange::with(|tenant| {
        tenant.users.push(User::new(FAX, "another"));
        tenant.app_mailboxes.push(FAX.to_owned());
    });
    let accounts = format!("# The old scanner.\n\n{}", account("scans", SCAN, ""));
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &accounts));
    mode(&proxy.configuration(), 0o640);
    (exchange, proxy)
}

fn run(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration()).stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

fn succeed(proxy: &Proxy, arguments: &[&str]) -> String {
    let ran = run(proxy, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.output, ran.errors);
    ran.output
}

/// The value of a row of a sheet.
fn row<'a>(sheet: &'a str, key: &str) -> &'a str {
    let row = sheet.lines().find_map(|line| line.trim_start().strip_prefix(key));
    row.unwrap_or_else(|| panic!("no row {key} in {sheet}")).trim()
}

fn login(proxy: &Proxy, name: &str, password: &str) -> String {
    support::imap::status(&exchange::imap(proxy).command(&format!("LOGIN {name} {password}")))
}

#[test]
fn a_device_reads_its_mail_as_soon_as_it_is_added() {
    let (exchange, proxy) = start();
    let sheet = succeed(&proxy, &["device", "add", "fax1", "--mailbox", FAX, "--network", "127.0.0.1"]);
    assert!(sheet.contains("changed; configuration reloaded"), "{sheet}");
    assert_eq!((row(&sheet, "user name"), row(&sheet, "mailbox")), ("fax1", FAX));
    assert!(row(&sheet, "IMAP").ends_with(", SSL/TLS"), "{sheet}");
    assert_eq!(row(&sheet, "IP address"), "127.0.0.1; from any other the login fails");
    let authority = fs::read(proxy.authority()).unwrap();
    let authority = openssl::x509::X509::from_pem(&authority).unwrap();
    let digest = authority.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    let digest: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    assert_eq!(row(&sheet, "CA SHA-256"), digest.join(":"));

    let password = row(&sheet, "password").to_owned();
    assert!(exchange.simulator.deliver(FAX, support::message(2000)));
    let mut device = exchange::imap(&proxy);
    device.login("fax1", &password);
    device.ok("SELECT INBOX");
    assert!(device.fetch(1) == support::message(2000));
    // The mailbox's address is a user name as well, and the device that was there before is still served.
    assert!(login(&proxy, FAX, &password).starts_with("OK"));
    assert!(login(&proxy, LOGIN, PASSWORD).starts_with("OK"));
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(text.contains("# The old scanner.\n\n[account.scans]") && !text.contains(&password), "{text}");

    let new = succeed(&proxy, &["device", "password", "fax1", "--keep"]);
    let new = row(&new, "password").to_owned();
    assert!([&password, &new].into_iter().all(|one| login(&proxy, "fax1", one).starts_with("OK")));
    // docs/start.md: the new password typed in ends the old one, and stays.
    let file = proxy.state.join("new-password");
    fs::write(&file, format!("{new}\n")).unwrap();
    let mut command = Command::new(program());
    command.args(["device", "password", "fax1", "--stdin", "--config"]).arg(proxy.configuration());
    let ended = Ran::of(command.stdin(fs::File::open(&file).unwrap()).output().unwrap());
    assert_eq!(ended.code, 0, "{}{}", ended.output, ended.errors);
    assert!(login(&proxy, "fax1", &password).starts_with("NO") && login(&proxy, "fax1", &new).starts_with("OK"));
    let last = succeed(&proxy, &["device", "password", "fax1"]);
    let last = row(&last, "password").to_owned();
    assert!(login(&proxy, "fax1", &last).starts_with("OK") && login(&proxy, "fax1", &new).starts_with("NO"));

    let mut open = exchange::imap(&proxy);
    open.login("fax1", &last);
    let removed = succeed(&proxy, &["device", "remove", "fax1"]);
    assert!(removed.contains("packetboat account remove fax"), "{removed}");
    assert_eq!(open.device.line(), "* BYE permission withdrawn by a reload");
    assert!(login(&proxy, "fax1", &last).starts_with("NO"));
    succeed(&proxy, &["account", "remove", "fax"]);
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(!text.contains("fax") && text.contains("# The old scanner."), "{text}");
    assert!(login(&proxy, LOGIN, PASSWORD).starts_with("OK"));
}

/// The tokens of this identity go to the one mail server of the file: nobody has to name it.
#[test]
fn an_account_gets_the_only_mail_server() {
    let (_exchange, proxy) = start();
    let added = succeed(&proxy, &["account", "add", "fax", "--mailbox", FAX]);
    assert!(added.contains("fax: its mail server is [upstream.exchange]"), "{added}");
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(text.contains(&format!("[account.fax]\nmailbox = \"{FAX}\"\nupstream = \"exchange\"\n")), "{text}");
    let sheet = succeed(&proxy, &["device", "add", "fax1", "--account", "fax"]);
    assert!(login(&proxy, "fax1", row(&sheet, "password")).starts_with("OK"), "{sheet}");
}

/// A sheet has all that a device needs to send, and the port of each protocol.
#[test]
fn a_device_sends_with_what_its_sheet_says() {
    let exchange = Exchange::new();
    let frame = exchange.submission_frame() + &exchange.identity(BY_SECRET);
    let proxy = exchange.proxy(&(frame + &account("scans", SCAN, "")));
    mode(&proxy.configuration(), 0o640);
    let sheet = succeed(&proxy, &["device", "add", "mfp1", "--account", "scans"]);
    assert!(
        row(&sheet, "SMTP").ends_with(", STARTTLS or SSL/TLS") && row(&sheet, "IMAP").ends_with(", SSL/TLS"),
        "{sheet}"
    );
    assert_eq!(row(&sheet, "sender"), format!("{SCAN} (the device's own address, or From)"));
    let message = proxy.state.join("page.eml");
    fs::write(&message, "Subject: page\r\n\r\nscan\r\n").unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--insecure", "--ssl-reqd", "--login-options", "AUTH=LOGIN"]);
    curl.arg("--user").arg(format!("{}:{}", row(&sheet, "user name"), row(&sheet, "password")));
    curl.args(["--mail-from", row(&sheet, "sender").split(' ').next().unwrap(), "--mail-rcpt", "me@fabrikam.example"]);
    let url = format!("smtp://{}/mfp1", proxy.address("smtp"));
    let sent = Ran::of(curl.arg("--upload-file").arg(&message).arg(url).output().unwrap());
    assert_eq!(sent.code, 0, "{}{}", sent.output, sent.errors);
    let submissions = exchange.simulator.submissions();
    assert!(
        submissions.len() == 1 && submissions[0].is_delivered && submissions[0].defects().is_empty(),
        "{submissions:?}"
    );
    // A sheet of one protocol has neither the others' ports nor, where the device only reads, a sender.
    let reading = succeed(&proxy, &["device", "sheet", "mfp1", "--protocol", "imap"]);
    assert!(!reading.contains("SMTP") && !reading.contains("sender"), "{reading}");
    let sending = succeed(&proxy, &["device", "sheet", "mfp1", "--protocol", "smtp"]);
    assert!(sending.contains("SMTP") && sending.contains("sender") && !sending.contains("IMAP"), "{sending}");
}

/// The sheet of a device without a login has neither user name nor password, and its device needs none.
#[test]
fn a_device_without_a_login_sends_with_what_its_sheet_says() {
    let exchange = Exchange::new();
    let frame = exchange.submission_frame() + &exchange.identity(BY_SECRET);
    let proxy = exchange.proxy(&(frame + &account("scans", SCAN, "")));
    mode(&proxy.configuration(), 0o640);
    let adding = ["device", "add", "hp", "--without-login", "--network", "127.0.0.2", "--account", "scans"];
    let open = run(&proxy, &adding);
    assert!(open.code == 78 && open.errors.contains("mail the whole world"), "{}", open.errors);
    let sheet = succeed(&proxy, &[&adding[..], &["--recipient", "*@contoso.example"]].concat());
    assert_eq!(row(&sheet, "IP address"), "127.0.0.2; from any other it cannot send");
    assert_eq!(row(&sheet, "user name"), "none: switch SMTP authentication off in the device");
    assert_eq!(row(&sheet, "password"), "none");
    assert!(row(&sheet, "SMTP").ends_with(", STARTTLS or SSL/TLS") && !sheet.contains("IMAP"), "{sheet}");
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    let block = "login = \"hp\"\naccount = \"scans\"\nsend_without_login = true\nnetworks = [\"127.0.0.2/32\"]\n\
                 recipients = [\"*@contoso.example\"]\n";
    assert!(text.contains(block), "{text}");
    let message = proxy.state.join("page.eml");
    fs::write(&message, "Subject: page\r\n\r\nscan\r\n").unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--insecure", "--ssl-reqd", "--interface", "127.0.0.2"]);
    curl.args(["--mail-from", "hp@device.example", "--mail-rcpt", SCAN, "--upload-file"]).arg(&message);
    let sent = Ran::of(curl.arg(format!("smtp://{}/hp", proxy.address("smtp"))).output().unwrap());
    assert_eq!((sent.code, exchange.simulator.submissions().len()), (0, 1), "{}{}", sent.output, sent.errors);
    let listed = succeed(&proxy, &["device", "list"]);
    let of_hp = listed.lines().find(|line| line.starts_with("hp ")).unwrap();
    assert!(of_hp.contains("127.0.0.2/32") && of_hp.contains("(sends without a login)"), "{listed}");
    let checked = succeed(&proxy, &["check"]);
    assert!(checked.contains("Serves 2 devices (1 without a login) from"), "{checked}");
    for (more, words) in [("--alias=fax", "cannot be used with"), ("--length=9", "cannot be used with")] {
        let ran = run(
            &proxy,
            &["device", "add", "hp2", "--without-login", "--network", "127.0.0.3", "--account", "scans", more],
        );
        assert!(ran.code == 64 && ran.errors.contains(words), "{}", ran.errors);
    }
    let ran = run(&proxy, &["device", "add", "hp2", "--without-login", "--account", "scans"]);
    assert!(ran.code == 64 && ran.errors.contains("--network"), "{}", ran.errors);
    // A password beside the address is for reading.
    let sheet = succeed(&proxy, &["device", "password", "hp"]);
    assert_eq!(row(&sheet, "user name"), "hp (may stay empty for sending)");
    let sheet = succeed(&proxy, &["device", "sheet", "hp"]);
    assert!(
        row(&sheet, "IMAP").ends_with("SSL/TLS") && row(&sheet, "password").starts_with("as it was given"),
        "{sheet}"
    );
}

#[test]
fn a_rejected_change_leaves_file_and_devices_as_they_were() {
    let (_exchange, proxy) = start();
    let before = fs::read(proxy.configuration()).unwrap();
    for (arguments, exit, words) in [
        (&["device", "add", LOGIN, "--mailbox", FAX][..], 64, "there is a device \"scanner3\" already"),
        (&["device", "add", "fax1", "--mailbox", "fax"], 64, "\"fax\" is no mail address"),
        (&["device", "add", "fax1", "--account", "none"], 64, "there is no account \"none\"; known are scans"),
        (&["device", "add", "fax1", "--mailbox", FAX, "--network", "192.168.1"], 64, "neither an address"),
        (&["device", "add", "fax 1", "--mailbox", FAX, "--alias", LOGIN], 78, "is another device's already"),
        (&["device", "remove", "fax1"], 64, "there is no device \"fax1\"; the configuration has scanner3"),
        (&["account", "remove", "scans"], 64, "still used by scanner3"),
        (&["account", "add", "fax", "--mailbox", FAX, "--identity", "none"], 78, "known are \"office\""),
        (&["device", "add", "fax1", "--account", "scans", "--mailbox", FAX], 64, "cannot be used with"),
        (&["device", "add", "fax1"], 64, "--mailbox"),
        (&["device", "remove", LOGIN], 64, "it is the only device"),
        (&["device", "password", LOGIN, "--html", "/proc/nope/x"], 74, "/proc/nope"),
        (&["device", "add", "fax1", "--mailbox", FAX, "--html", "/proc/nope/x"], 74, "/proc/nope"),
        (&["account", "add", "x y", "--mailbox", FAX], 64, "\"x y\" is no name"),
        (&["account", "add", "fax", "--mailbox", "a\u{2019};calc;\u{2019}@b.example"], 64, "is no mail address"),
    ] {
        let ran = run(&proxy, arguments);
        assert_eq!(ran.code, exit, "{arguments:?}: {}{}", ran.output, ran.errors);
        assert!(ran.errors.contains(words), "{arguments:?}: {}", ran.errors);
        assert!(!ran.errors.contains("candidate"), "{}", ran.errors);
        assert_eq!(fs::read(proxy.configuration()).unwrap(), before, "{arguments:?}");
    }
    assert!(login(&proxy, LOGIN, PASSWORD).starts_with("OK"));
    let there: Vec<_> = fs::read_dir(proxy.configuration().parent().unwrap()).unwrap().collect();
    assert!(there.iter().all(|one| !one.as_ref().unwrap().path().to_string_lossy().contains("candidate")));
}

/// The file is good, but the proxy that runs may not read the new path of a secret: it has confined itself at its start.
#[test]
fn a_file_that_the_running_proxy_rejects_is_put_back() {
    let (exchange, proxy) = start();
    let path = proxy.configuration();
    let before = fs::read_to_string(&path).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    fs::copy(exchange.file("SECRET", exchange::SECRET), &secret).unwrap();
    let line = before.lines().find(|line| line.starts_with("client_secret_file")).unwrap();
    let changed = before.replace(line, &format!("client_secret_file = {secret:?}"));
    fs::write(&path, &changed).unwrap();
    let ran = run(&proxy, &["device", "add", "fax1", "--mailbox", FAX]);
    assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
    assert!(ran.errors.contains("put back as it was") && !ran.output.contains("password"), "{}", ran.errors);
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    fs::write(&path, &before).unwrap();
    succeed(&proxy, &["device", "add", "fax1", "--mailbox", FAX]);
}

#[test]
fn sheets_and_lists_show_no_password_and_no_hash() {
    let (_exchange, proxy) = start();
    let sheet = proxy.state.join("sheet.html");
    let made = succeed(&proxy, &["device", "add", "fax<1>", "--mailbox", FAX, "--html", sheet.to_str().unwrap()]);
    assert!(made.contains("wrote ") && !made.contains("password"), "{made}");
    let page = fs::read_to_string(&sheet).unwrap();
    assert!(page.contains("<h1>Mail settings of fax&lt;1&gt;</h1>") && !page.contains("fax<1>"), "{page}");
    let listed = succeed(&proxy, &["device", "list"]) + &succeed(&proxy, &["account", "list"]);
    assert!(listed.contains("fax<1>") && listed.contains(FAX) && !listed.contains("argon2"), "{listed}");
    let again = succeed(&proxy, &["device", "sheet", "fax<1>", "--protocol", "pop3"]);
    assert!(again.contains("POP3") && !again.contains("IMAP") && again.contains("keeps only its hash"), "{again}");
    let config = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(Config::parse(&config, &proxy.configuration()).is_ok());
}
