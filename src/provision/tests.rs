//! Edits change their own lines, and every other line keeps its octets.

use std::collections::BTreeSet;

use super::{ConfigurationFile, Document, Error, NewAccount, NewDevice};

const FILE: &str = "\
# The office.\r
state_directory = \"/var/lib/packetboat\"   # a comment behind a value

[identity.office]
tenant    = 'contoso.example'   # in single quotes
client_id = \"1\"

# The mailboxes.

# Scans.
[account.scans]
mailbox = \"scans@contoso.example\"

# Ground floor.

# The old scanner: do not switch it off.
[[device]]
login = \"Scanner1\"   # capital on purpose
passwords = [
    \"$argon2id$one\", # in March
    \"$argon2id$two\",
]

# First floor.

[[device]]
login = \"scanner2\"
passwords = [\"$argon2id$three\"]

[[listener]]
protocol = \"imap\"
listen = [\"0.0.0.0:993\"]
# The last line.
";

fn file() -> String {
    FILE.replace("\\r\n", "\n").replace('\r', "")
}

fn device(login: &str) -> NewDevice {
    NewDevice {
        login: login.to_owned(),
        aliases: vec!["scans@contoso.example".to_owned()],
        password: Some("$argon2id$new".to_owned()),
        account: "scans".to_owned(),
        networks: vec!["192.168.1.21/32".to_owned()],
        recipients: Vec::new(),
        description: Some("third \"floor\"".to_owned()),
    }
}

/// The lines that one text has and the other has not, in order.
fn lines_only_in<'a>(one: &'a str, other: &str) -> Vec<&'a str> {
    let mut left: Vec<&str> = other.lines().collect();
    let is_new = |line: &&str| match left.iter().position(|other| other == line) {
        Some(at) => {
            left.remove(at);
            false
        }
        None => true,
    };
    one.lines().filter(is_new).collect()
}

#[test]
fn a_device_is_added_behind_the_last_one() {
    let before = file();
    let mut document = Document::parse(&before).unwrap();
    document.add_device(&device("fax1")).unwrap();
    let after = document.text();
    assert_eq!(lines_only_in(&before, &after), Vec::<&str>::new());
    let block = "\n[[device]]\nlogin = \"fax1\"\naliases = [\"scans@contoso.example\"]\n\
                 description = 'third \"floor\"'\naccount = \"scans\"\npasswords = [\"$argon2id$new\"]\n\
                 networks = [\"192.168.1.21/32\"]\n\n[[listener]]";
    assert!(after.contains(block), "{after}");
    let again = document.add_device(&device("FAX1")).unwrap_err();
    assert!(matches!(&again, Error::Exists { name, .. } if name == "FAX1"), "{again}");
    document.remove_device("fax1").unwrap();
    assert_eq!(document.text(), before);
}

#[test]
fn a_removed_device_takes_its_own_comment_alone() {
    let before = file();
    let mut document = Document::parse(&before).unwrap();
    document.remove_device("scanner1").unwrap();
    let after = document.text();
    let own = [
        "# The old scanner: do not switch it off.",
        "[[device]]",
        "login = \"Scanner1\"   # capital on purpose",
        "passwords = [",
        "    \"$argon2id$one\", # in March",
        "    \"$argon2id$two\",",
        "]",
    ];
    let gone = lines_only_in(&before, &after).into_iter().filter(|line| !line.is_empty());
    assert_eq!(gone.collect::<BTreeSet<_>>(), BTreeSet::from(own));
    assert!(after.contains("# Ground floor.\n\n# First floor.\n\n[[device]]\nlogin = \"scanner2\""), "{after}");
    document.remove_device("scanner2").unwrap();
    assert!(document.text().contains("# First floor.\n\n[[listener]]"), "{}", document.text());
    let missing = document.remove_device("scanner2").unwrap_err().to_string();
    assert!(missing.contains("no device \"scanner2\""), "{missing}");
}

#[test]
fn passwords_change_alone() {
    let before = file();
    let mut document = Document::parse(&before).unwrap();
    assert_eq!(document.passwords("SCANNER1").unwrap(), ["$argon2id$one", "$argon2id$two"]);
    document.set_passwords("scanner2", &["$argon2id$four".to_owned()]).unwrap();
    let after = document.text();
    assert_eq!(lines_only_in(&before, &after), ["passwords = [\"$argon2id$three\"]"]);
    assert_eq!(lines_only_in(&after, &before), ["passwords = [\"$argon2id$four\"]"]);
}

#[test]
fn a_second_account_leaves_no_device_without_one() {
    let mut document = Document::parse(&file()).unwrap();
    let account = |name: &str| NewAccount {
        name: name.to_owned(),
        mailbox: format!("{name}@contoso.example"),
        identity: None,
        upstream: None,
    };
    document.add_account(&account("fax")).unwrap();
    let after = document.text();
    assert_eq!(after.matches("\naccount = \"scans\"").count(), 2, "{after}");
    assert!(
        after.contains("mailbox = \"scans@contoso.example\"\n\n[account.fax]\nmailbox = \"fax@contoso.example\""),
        "{after}"
    );
    let used = document.remove_account("scans").unwrap_err().to_string();
    assert!(used.contains("scanner1, scanner2"), "{used}");
    document.remove_account("fax").unwrap();
    assert!(matches!(document.add_account(&account("scans")), Err(Error::Exists { .. })));
    document.set_identity("office", "client_id", "2").unwrap();
    assert!(document.text().contains("client_id = \"2\""));
}

#[test]
fn line_ends_and_byte_order_marks_stay() {
    let text = format!("\u{feff}{}", file().replace('\n', "\r\n"));
    let mut document = Document::parse(&text).unwrap();
    assert_eq!(document.text(), text);
    document.add_device(&device("fax1")).unwrap();
    document.remove_device("fax1").unwrap();
    assert_eq!(document.text(), text);
}

#[test]
fn forms_that_an_edit_would_not_keep_are_refused() {
    let inline = "device = [{ login = \"a\", passwords = [\"x\"] }]\n";
    let mut document = Document::parse(inline).unwrap();
    assert!(document.add_device(&device("b")).unwrap_err().to_string().contains("[[device]]"));
    assert!(matches!(Document::parse("[[device]\n"), Err(Error::Syntax(_))));
    let mixed = "[log]\r\nlevel = \"info\"\n";
    assert!(matches!(Document::parse(mixed), Err(Error::Form { line: 1 })));
}

#[test]
fn a_file_is_replaced_whole_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("packetboat.toml"), directory.path().join("link.toml"));
    std::fs::write(&path, "one").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let target = ConfigurationFile::open(&link).unwrap();
    let backup = target.back_up().unwrap();
    target.replace("two").unwrap();
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), "one");
    assert_ne!(target.back_up().unwrap(), backup, "an earlier one stays");
    for path in [&path, &backup] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert!(link.is_symlink());
    // An editor has been there: nothing of its work is lost.
    assert!(matches!(target.replace("three"), Err(Error::Changed { .. })));
    assert!(matches!(target.restore("three"), Err(Error::Changed { .. })));
    target.restore("two").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    std::fs::write(directory.path().join("thesis.new-chapter"), "mine").unwrap();
    target.replace("four").unwrap();
    assert!(directory.path().join("thesis.new-chapter").exists());
}
