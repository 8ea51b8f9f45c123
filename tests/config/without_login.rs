//! Devices without a login: what `check` refuses, what it warns of, and the lists that narrow one another.

use super::{ACCOUNT, DEVICE, IDENTITY, SECRET, parse, problems, warnings};

const SMTP: &str = "[[listener]]\nprotocol = \"smtp\"\nlisten = [\"0.0.0.0:1587\"]\n";
const OWN: &str = "recipients = [\"*@contoso.example\"]";

/// A file with one account, which has these lines, and these sections behind it.
fn file(account: &str, more: &str) -> String {
    format!("{SMTP}{IDENTITY}{SECRET}{ACCOUNT}{account}\n{more}\n")
}

fn device(login: &str, networks: &str, more: &str) -> String {
    format!("[[device]]\nlogin = \"{login}\"\nsend_without_login = true\nnetworks = [{networks}]\n{more}\n")
}

/// The text has one problem, with these words.
#[track_caller]
fn has_problem(text: &str, key: &str, words: &str) {
    let found = problems(text);
    assert!(
        found.len() == 1 && found[0].contains(&format!(": {key}: ")) && found[0].contains(words),
        "{text}\n{found:#?}"
    );
}

#[test]
fn a_device_without_a_login_has_its_own_private_address() {
    for networks in ["\"192.168.1.20\"", "\"10.1.2.0/24\", \"172.16.0.1\"", "\"fd00:1:2:3::/64\"", "\"fe80::7\""] {
        let config = parse(&file("", &device("hp", networks, OWN)));
        assert!(config.devices[0].sends_without_login && config.devices[0].passwords.is_empty());
        assert_eq!(warnings(&file("", &device("hp", networks, OWN))), [""; 0], "{networks}");
    }
    for network in [
        "0.0.0.0/0",
        "::/0",
        "8.8.8.8",
        "203.0.113.0/24",
        "10.0.0.0/7",
        "192.168.0.0/15",
        "172.0.0.0/8",
        "100.64.0.0/24",
        "2001:db8::/64",
        "2001:db8::1",
        "fc00::/6",
        "128.0.0.0/1",
    ] {
        for wide in ["", "allow_wide_networks = true"] {
            let text = file("", &device("hp", &format!("\"{network}\""), &format!("{OWN}\n{wide}")));
            has_problem(&text, "device.networks", "has public addresses");
        }
    }
    for network in ["10.0.0.0/8", "192.168.0.0/23", "fd00::/63", "fd00::/8"] {
        let wide = device("hp", &format!("\"{network}\""), OWN);
        has_problem(&file("", &wide), "device.networks", &format!("every computer in {network} could send"));
        has_problem(&file("", &wide), "device.networks", "allow_wide_networks = true");
        parse(&file("", &(wide + "allow_wide_networks = true\n")));
    }
    let missing = format!("[[device]]\nlogin = \"hp\"\nsend_without_login = true\n{OWN}\n");
    has_problem(&file("", &missing), "device.send_without_login", "needs networks beside it");
    has_problem(&file("", &device("hp", "", OWN)), "device.networks", "allows nobody");
    has_problem(
        &file("", &device("hp", "\"::ffff:192.168.1.20\"", OWN)),
        "device.networks",
        "IPv4 in the form of IPv6",
    );
}

#[test]
fn the_keys_of_a_device_without_a_login_belong_together() {
    // false is the default, and asks for a password.
    let off = device("hp", "\"192.168.1.20\"", OWN).replace("= true", "= false");
    has_problem(&file("", &off), "device.passwords", "is missing");
    let text = file("", &format!("{DEVICE}networks = [\"192.168.1.20\"]\nallow_wide_networks = true"));
    has_problem(&text, "device.allow_wide_networks", "beside send_without_login = true alone");
    has_problem(
        &file("", &device("hp", "\"192.168.1.20\"", &format!("{OWN}\npasswords = []"))),
        "device.passwords",
        "is missing",
    );
    let both = file("", &format!("{DEVICE}networks = [\"192.168.1.20\"]\nsend_without_login = true\n{OWN}"));
    let device = parse(&both).devices.remove(0);
    assert!(device.sends_without_login && device.passwords.len() == 1);
}

/// packetboat could not tell which of the two sends. A device with a login may be there, too.
#[test]
fn two_devices_without_a_login_have_no_address_in_common() {
    for (one, other) in [
        ("\"192.168.1.20\"", "\"192.168.1.20\""),
        ("\"192.168.1.0/24\"", "\"10.0.0.1\", \"192.168.1.20\""),
        ("\"fd00::7\"", "\"fd00::/64\""),
    ] {
        let text = file("", &(device("hp", one, OWN) + &device("ups", other, OWN)));
        has_problem(&text, "device.networks", "overlaps the networks of device \"hp\"");
        let with_password = format!("{DEVICE}networks = [{other}]\n");
        parse(&file("", &(device("hp", one, OWN) + &with_password)));
    }
    parse(&file("", &(device("hp", "\"192.168.1.20\"", OWN) + &device("ups", "\"192.168.1.21\"", OWN))));
}

#[test]
fn the_recipients_of_a_device_without_a_login_are_said() {
    let open = device("hp", "\"192.168.1.20\"", "");
    has_problem(&file("", &open), "device.send_without_login", "mail the whole world");
    for (account, more) in [
        ("", device("hp", "\"192.168.1.20\"", OWN)),
        (OWN, open.clone()),
        ("", open.clone() + "[submission]\n" + OWN),
        ("", device("hp", "\"192.168.1.20\"", "recipients = [\"*@*\"]")),
    ] {
        assert_eq!(warnings(&file(account, &more)), [""; 0]);
    }
    let config = parse(&file("", &device("hp", "\"192.168.1.20\"", "recipients = [\"*@*\"]")));
    assert_eq!(config.devices[0].submission.recipients.as_deref(), Some(&[][..]));
    // The world stands alone, and at a device alone.
    for text in [
        file("recipients = [\"*@*\"]", &device("hp", "\"192.168.1.20\"", "")),
        file("", &device("hp", "\"192.168.1.20\"", "recipients = [\"*@*\", \"a@contoso.example\"]")),
        file("", &device("hp", "\"192.168.1.20\"", &format!("{OWN}\nsenders = [\"*@*\"]"))),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|one| one.contains("has an address, such as")), "{found:?}");
    }
}

/// A device with a login has lists, too.
#[test]
fn lists_narrow_one_another_and_never_widen() {
    let with_password = |more: &str| format!("{DEVICE}{more}\n");
    let account = "senders = [\"*@contoso.example\"]\nrecipients = [\"*@contoso.example\", \"fax@fabrikam.example\"]";
    for (account, device) in [
        (account, "senders = [\"office@contoso.example\"]\nrecipients = [\"Fax@Fabrikam.example\"]"),
        ("", "recipients = [\"*@contoso.example\"]\nsenders = [\"Scans@contoso.example\"]"),
    ] {
        parse(&file(account, &with_password(device)));
    }
    for (account, device, key) in [
        (account, "recipients = [\"*@fabrikam.example\"]", "device.recipients"),
        (account, "recipients = [\"*@*\"]", "device.recipients"),
        (account, "recipients = [\"a%b.example@contoso.example\"]", "device.recipients"),
        (account, "senders = [\"office@fabrikam.example\"]", "device.senders"),
        ("", "senders = [\"office@contoso.example\"]", "device.senders"),
    ] {
        has_problem(&file(account, &with_password(device)), key, "narrows");
    }
    let bound = "[submission]\nrecipients = [\"*@contoso.example\"]";
    has_problem(&file("recipients = [\"*@fabrikam.example\"]", bound), "account.scans.recipients", "narrows");
    has_problem(&file("", &(with_password("recipients = [\"*@*\"]") + bound)), "device.recipients", "[submission]");
    let config = parse(&file("", bound));
    assert_eq!(config.accounts["scans"].submission.recipients, ["*@contoso.example"]);
    let config = parse(&file("recipients = [\"a@contoso.example\"]", bound));
    assert_eq!(config.accounts["scans"].submission.recipients, ["a@contoso.example"]);
    let text = file("sender = \"reject\"", &with_password("senders = [\"scans@contoso.example\"]"));
    has_problem(&text, "device.senders", "remove it");
}

#[test]
fn a_device_that_cannot_send_or_is_this_computer_is_warned_of() {
    let found = warnings(&file("", &device("hp", "\"127.0.0.2\", \"::1\"", OWN)));
    assert!(found.len() == 2 && found.iter().all(|one| one.contains("every program on this computer")), "{found:?}");
    let text = file("", &device("hp", "\"192.168.1.20\"", OWN));
    let found = warnings(&text.replace("\"smtp\"", "\"imap\""));
    assert!(found.len() == 1 && found[0].contains("protocol = \"smtp\" alone knows"), "{found:?}");
    // A listener for IMAP alone is near.
    let near = text.replace("1587\"]\n", "1587\"]\nallowed_networks = [\"10.0.0.0/8\"]\n")
        + "[[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1143\"]\n";
    let found = warnings(&near);
    let line = "write in listener smtp-1587: allowed_networks = [\"10.0.0.0/8\", \"192.168.1.20/32\"]";
    assert!(found.len() == 1 && found[0].contains(line), "{found:?}");
}
