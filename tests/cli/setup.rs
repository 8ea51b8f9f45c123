//! `packetboat setup`: the printed steps, and the script, read by PowerShell's grammar and compared with the documented
//! commands.

use super::powershell::{Documented, Script, children};
use super::*;

pub(super) const ZEROS: &str = "00000000-0000-0000-0000-000000000000";
pub(super) const ID: &str = "6233fba6-0198-4277-892f-9275bf728bcc";

/// Mailboxes that a text could break out of its quotation marks with: PowerShell takes ‘ ’ ‚ ‛ for ' too.
pub(super) const MAILBOXES: [&str; 9] = [
    "scans@contoso.example",
    "o'neill@contoso.example",
    "$x@contoso.example",
    "a`b@contoso.example",
    "$(exit)@contoso.example",
    "‘a’@contoso.example",
    "‚b‛@contoso.example",
    "“c”@contoso.example",
    "'#<>{}@contoso.example",
];

pub(super) fn identity(name: &str, keys: &str) -> String {
    format!("[identity.{name:?}]\ntenant = \"contoso.example\"\n{keys}")
}

pub(super) fn accounts(identity: &str, mailboxes: &[&str]) -> String {
    let one = |(number, mailbox): (usize, &&str)| {
        format!("[account.{identity}{number}]\nidentity = {identity:?}\nmailbox = {mailbox:?}\n")
    };
    mailboxes.iter().enumerate().map(one).collect()
}

pub(super) fn listeners(protocols: &[&str]) -> String {
    let one = |(number, protocol): (usize, &&str)| {
        format!(
            "[[listener]]\nprotocol = {protocol:?}\nlisten = [\"127.0.0.1:{}\"]\nlogins = \"pass-through\"\n",
            10_143 + number
        )
    };
    protocols.iter().enumerate().map(one).collect()
}

impl Bench {
    /// The keys of an identity with the certificate of this name, which it makes.
    pub(super) fn with_certificate(&self, name: &str, client_id: &str) -> String {
        if !self.path(&format!("{name}.pem")).exists() {
            self.certificate(name, &rsa());
        }
        let path = |extension: &str| self.path(&format!("{name}.{extension}"));
        format!("client_id = {client_id:?}\ncertificate = {:?}\nkey = {:?}\n", path("pem"), path("key"))
    }

    pub(super) fn script(&self, arguments: &[&str], configuration: &str) -> String {
        let output = self.run(&[&["setup", "--script", "--output", "-"], arguments].concat(), configuration);
        assert!(output.status.success(), "{}", err(&output));
        out(&output)
    }
}

/// The expressions in the list `Mailboxes` of a script.
fn mailboxes(script: &Script) -> Vec<String> {
    let entry = |node: &tree_sitter::Node<'_>| node.kind() == "hash_entry";
    let lists = script.nodes().into_iter().filter(entry).filter(|node| script.text_of(*node).starts_with("Mailboxes"));
    let statements = lists.flat_map(|list| descendants_of(list, "statement_list"));
    statements.flat_map(children).map(|statement| script.constant(statement)).collect()
}

fn descendants_of<'a>(node: tree_sitter::Node<'a>, kind: &str) -> Vec<tree_sitter::Node<'a>> {
    let mut found = Vec::new();
    for child in children(node) {
        if child.kind() == kind {
            found.push(child);
        } else {
            found.extend(descendants_of(child, kind));
        }
    }
    found
}

#[test]
fn every_script_is_powershell_and_calls_documented_commands() {
    let bench = Bench::new();
    let documented = Documented::read();
    let mut number = 0;
    for cloud in ["worldwide", "gcc-high", "dod", "china"] {
        for protocols in [&["imap"][..], &["pop3"], &["imap", "pop3"], &["smtp"], &["imap", "smtp"]] {
            number += 1;
            let keys = bench.with_certificate("app", if number % 2 == 0 { ZEROS } else { ID });
            let text = identity("office", &format!("cloud = {cloud:?}\n{keys}"))
                + &accounts("office", &MAILBOXES[..number.min(MAILBOXES.len())])
                + &listeners(protocols);
            for arguments in [&[][..], &["--account", "office0"]] {
                let script = Script::parse(&bench.script(arguments, &text));
                assert!(script.mistakes().is_empty(), "{:?}", script.mistakes());
                assert!(documented.unknown(&script).is_empty(), "{:?}", documented.unknown(&script));
            }
        }
    }
}

/// The checks find what they are there for.
#[test]
fn a_mistake_in_a_script_is_found() {
    let bench = Bench::new();
    let text = identity("office", &bench.with_certificate("app", ZEROS))
        + &accounts("office", &MAILBOXES)
        + &listeners(&["imap"]);
    let good = bench.script(&[], &text);
    for (old, new) in [
        ("'o''neill@contoso.example'", "'o'neill@contoso.example'"),
        ("try {\n", "try \n"),
        ("-eq $Thumbprint", "-eq"),
        ("$IsWhole = $true", "$IsWhole = $true }"),
    ] {
        assert!(good.contains(old), "{old}");
        assert!(!Script::parse(&good.replacen(old, new, 1)).mistakes().is_empty(), "{new}");
    }
    let documented = Documented::read();
    for (old, new, found) in [
        ("Add-MailboxPermission", "Add-MailboxPermissions", "Add-MailboxPermissions is not in cmdlets.toml"),
        ("-AutoMapping $false", "-AutoMap $false", "Add-MailboxPermission has no parameter -AutoMap"),
        ("-RequiredResourceAccess", "-RequiredResources", "has no parameter -RequiredResources"),
        ("-ObjectId $ObjectId -DisplayName", "-DisplayName", "New-ServicePrincipal lacks -ObjectId"),
        ("Get-MgContext)", "Get-MgContext 'x')", "Get-MgContext has a value without a name"),
        ("Write-Right 'no certificate", "Write-Rigth 'no certificate", "Write-Rigth is not in cmdlets.toml"),
    ] {
        assert!(good.contains(old), "{old}");
        let unknown = documented.unknown(&Script::parse(&good.replacen(old, new, 1)));
        assert!(unknown.len() == 1 && unknown[0].ends_with(found), "{new}: {unknown:?}");
    }
}

/// A function of the script's own must not stand in the way of a command.
#[test]
fn functions_of_the_script_hide_no_command() {
    let script = Script::parse(include_str!("../../src/cli/setup/packetboat.ps1"));
    assert!(script.mistakes().is_empty(), "the template by itself: {:?}", script.mistakes());
    let functions = script.functions();
    assert!(functions.len() > 20, "{functions:?}");
    assert!(Documented::read().names().all(|name| !functions.contains(name)));
    // Each one is used, and with as many values as it has parameters.
    for function in functions {
        assert!(script.calls().iter().any(|call| call.name == function), "{function} is not used");
    }
}

#[test]
fn nothing_breaks_out_of_its_quotation_marks() {
    let bench = Bench::new();
    let text = identity("office", &bench.with_certificate("app", ID))
        + &accounts("office", &MAILBOXES)
        + &listeners(&["imap", "pop3"]);
    let script = bench.script(&[], &text);
    assert!(script.is_ascii());
    let script = Script::parse(&script);
    assert!(script.mistakes().is_empty(), "{:?}", script.mistakes());
    assert_eq!(mailboxes(&script), MAILBOXES);
    // The lines for one account, and those for all.
    for (number, mailbox) in MAILBOXES.iter().enumerate() {
        let lines = out(&bench.run(&["setup", "--account", &format!("office{number}")], &text));
        let script = Script::parse(&lines);
        assert!(script.mistakes().is_empty(), "{:?}", script.mistakes());
        assert!(Documented::read().unknown(&script).is_empty(), "{:?}", Documented::read().unknown(&script));
        let names: Vec<String> = script.calls().into_iter().map(|call| call.name).collect();
        let wanted = [
            "Connect-ExchangeOnline",
            "Get-ServicePrincipal",
            "Where-Object",
            "Add-MailboxPermission",
            "Set-CASMailbox",
        ];
        assert_eq!(names, wanted);
        let is_rights = |node: &tree_sitter::Node<'_>| {
            node.kind() == "command" && script.text_of(*node).starts_with("Add-MailboxPermission")
        };
        let rights = script.nodes().into_iter().find(is_rights).unwrap();
        let value = descendants_of(rights, "array_literal_expression")[0];
        assert_eq!(script.constant(value), *mailbox);
    }
    let printed = out(&bench.run(&["setup"], &text));
    let script = Script::parse(&powershell_of(&printed));
    assert!(script.mistakes().is_empty(), "{:?}", script.mistakes());
    assert!(Documented::read().unknown(&script).is_empty(), "{:?}", Documented::read().unknown(&script));
    assert!(script.calls().len() > 2 * MAILBOXES.len());
}

/// The indented lines, which are for PowerShell where no certificate and no sign-in is needed.
pub(super) fn powershell_of(printed: &str) -> String {
    let lines = printed.lines().filter(|line| line.starts_with("    ") && !line.contains("packetboat check"));
    lines.map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_printed_powershell_of_each_grant_calls_documented_commands() {
    let bench = Bench::new();
    let client = format!("client_id = {ID:?}\n");
    for (cloud, keys) in [
        ("worldwide", format!("{client}grant = \"authorization-code\"\n")),
        ("gcc-high", format!("{client}grant = \"federated\"\ntoken_file = {:?}\n", bench.path("token"))),
        ("dod", "grant = \"managed-identity\"\n".to_owned()),
        ("china", format!("{client}client_secret_file = {:?}\n", bench.path("secret"))),
    ] {
        let keys = format!("cloud = {cloud:?}\n{keys}");
        let tenant = if keys.contains("managed") { "" } else { "tenant = \"contoso.example\"\n" };
        let text = format!("[identity.office]\n{tenant}{keys}")
            + &accounts("office", &MAILBOXES[..2]).replace(
                "mailbox",
                if keys.contains("authorization") { "user = \"boss@contoso.example\"\nmailbox" } else { "mailbox" },
            )
            + &listeners(&["imap", "pop3"]);
        let output = bench.run(&["setup"], &text);
        assert!(output.status.success(), "{}", err(&output));
        let script = Script::parse(&powershell_of(&out(&output).replace("    packetboat login", "packetboat login")));
        assert!(script.mistakes().is_empty(), "{:?}", script.mistakes());
        assert!(Documented::read().unknown(&script).is_empty(), "{:?}", Documented::read().unknown(&script));
        assert!(script.calls().len() >= 5, "{}", out(&output));
    }
}

#[test]
fn a_script_has_what_the_configuration_says() {
    let bench = Bench::new();
    let keys = bench.with_certificate("app", ZEROS);
    let text = identity("office", &keys) + &accounts("office", &MAILBOXES[..2]) + &listeners(&["imap"]);
    let script = bench.script(&[], &text);
    for part in [
        "Tenant              = 'contoso.example'",
        "ClientId            = ''",
        "GraphEnvironment    = 'Global'",
        "ExchangeEnvironment = 'O365Default'",
        "Permissions         = @('IMAP.AccessAsApp')",
        "ImapEnabled         = $true",
        "PopEnabled          = $false",
        "$IsWhole = $true",
        "NOT TRIED AT MICROSOFT",
    ] {
        assert!(script.contains(part), "{part}\n{script}");
    }
    assert_eq!(mailboxes(&Script::parse(&script)), MAILBOXES[..2]);
    let one = bench.script(&["--account", "office1"], &text);
    assert_eq!(mailboxes(&Script::parse(&one)), [MAILBOXES[1]]);
    assert!(one.contains("$IsWhole = $false"));
    let clouds = [
        ("gcc-high", "USGov", "O365USGovGCCHigh"),
        ("dod", "USGovDoD", "O365USGovDoD"),
        ("china", "China", "O365China"),
    ];
    for (cloud, graph, exchange) in clouds {
        let keys = format!("cloud = {cloud:?}\n{}", bench.with_certificate("app", ID));
        let text = identity("office", &keys) + &accounts("office", &MAILBOXES[..1]) + &listeners(&["pop3", "imap"]);
        let script = bench.script(&[], &text);
        assert!(script.contains(&format!("GraphEnvironment    = '{graph}'")), "{cloud}");
        assert!(script.contains(&format!("ExchangeEnvironment = '{exchange}'")), "{cloud}");
        assert!(script.contains("Permissions         = @('IMAP.AccessAsApp', 'POP.AccessAsApp')"));
        assert!(script.contains(&format!("ClientId            = '{ID}'")));
        assert!(script.contains("Next                = 'packetboat check --online'"));
    }
}

/// The certificate is in the script, whole; the key is not, even if it is in the certificate's file.
#[test]
fn a_script_contains_the_certificate_and_never_the_key() {
    let bench = Bench::new();
    let keys = bench.with_certificate("app", ZEROS);
    let (certificate, key) = (bench.path("app.pem"), fs::read_to_string(bench.path("app.key")).unwrap());
    let pem = fs::read_to_string(&certificate).unwrap();
    fs::write(&certificate, format!("{key}{pem}{pem}")).unwrap();
    let text = identity("office", &keys) + &accounts("office", &MAILBOXES[..1]) + &listeners(&["imap"]);
    let script = bench.script(&[], &text);
    let base64 = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect::<Vec<_>>();
    assert!(script.contains(&format!("'\n{}\n'", base64(&pem).join("\n"))), "{script}");
    for line in base64(&key) {
        assert!(!script.contains(&line), "a part of the key");
    }
    let one = X509::from_pem(pem.as_bytes()).unwrap();
    let thumbprint: String =
        one.digest(MessageDigest::sha1()).unwrap().iter().map(|octet| format!("{octet:02X}")).collect();
    assert!(script.contains(&format!("Thumbprint          = '{thumbprint}'")), "{script}");
}

#[test]
fn a_script_is_written_where_it_costs_nothing() {
    let bench = Bench::new();
    let text = identity("office", &bench.with_certificate("app", ZEROS))
        + &accounts("office", &MAILBOXES[..1])
        + &listeners(&["imap"]);
    let file = bench.path("packetboat.ps1");
    let arguments = ["setup", "--script", "--output", file.to_str().unwrap()];
    for _ in 0..2 {
        let printed = out(&bench.run(&arguments, &text));
        assert!(printed.contains("./packetboat.ps1 -WhatIf"), "{printed}");
        assert_eq!(fs::read_to_string(&file).unwrap(), bench.script(&[], &text));
    }
    let configuration = bench.path("packetboat.toml");
    let arguments = ["setup", "--script", "--output", configuration.to_str().unwrap()];
    fails(&bench.run(&arguments, &text), 64, "exists, and is no script of packetboat setup: name another file");
    assert!(fs::read_to_string(&configuration).unwrap().ends_with(&text));
    fails(&bench.run(&["setup", "--script", "--output", "/nowhere/x.ps1"], &text), 74, "/nowhere/x.ps1");
    fails(&bench.run(&["setup", "--account", "nobody"], &text), 64, "no account \"nobody\"; known are office0");
    fs::remove_file(bench.path("app.pem")).unwrap();
    fails(&bench.run(&["setup", "--script"], &text), 69, "identity.office.certificate: cannot read");
}

/// Identities that the script is not for are named; the others are in it.
#[test]
fn a_script_leaves_out_what_it_is_not_for() {
    let bench = Bench::new();
    let person = identity("person", &format!("client_id = {ID:?}\ngrant = \"device-code\"\n"))
        + &accounts("person", &MAILBOXES[1..2]);
    fails(
        &bench.run(&["setup", "--script"], &(person.clone() + &listeners(&["imap"]))),
        69,
        "nothing to write a script",
    );
    let text = identity("office", &bench.with_certificate("app", ZEROS))
        + &accounts("office", &MAILBOXES[..1])
        + &identity("other", &bench.with_certificate("other", ID))
        + &accounts("other", &MAILBOXES[2..4])
        + &identity("empty", &bench.with_certificate("app", ID))
        + &person
        + &listeners(&["imap"]);
    let output = bench.run(&["setup", "--script", "--output", "-"], &text);
    assert_eq!(mailboxes(&Script::parse(&out(&output))), [MAILBOXES[0], MAILBOXES[2], MAILBOXES[3]]);
    assert!(err(&output).contains("[identity.person] is not in the script"), "{}", err(&output));
    assert!(err(&output).contains("[identity.empty] is not in the script: no [account.NAME]"), "{}", err(&output));
    // An account of a person has lines of its own.
    let lines = out(&bench.run(&["setup", "--account", "person0"], &text));
    assert!(lines.contains("Set-CASMailbox -Identity 'o''neill@contoso.example' -ImapEnabled $true"), "{lines}");
    assert!(!lines.contains("Add-MailboxPermission") && lines.contains("packetboat login person0"), "{lines}");
}

/// The printed commands make a key that the service, another user than root, can read.
#[test]
fn the_printed_commands_make_a_key_that_the_service_reads() {
    const OWNER: u32 = 65_534;
    let bench = Bench::new();
    if fs::metadata(bench.directory.path()).unwrap().uid() != 0 {
        eprintln!("not root: not tried");
        return;
    }
    fs::set_permissions(bench.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(bench.path("state")).unwrap();
    std::os::unix::fs::chown(bench.path("state"), Some(OWNER), Some(OWNER)).unwrap();
    let keys = format!(
        "client_id = {ID:?}\ncertificate = {:?}\nkey = {:?}\n",
        bench.path("the app.pem"),
        bench.path("the app.key")
    );
    let text = identity("office", &keys) + &accounts("office", &MAILBOXES[..1]) + &listeners(&["imap"]);
    let printed = out(&bench.run(&["setup"], &text));
    let recipe = printed.lines().skip_while(|line| !line.contains("openssl req")).take_while(|line| !line.is_empty());
    let recipe: Vec<&str> = recipe.collect();
    assert_eq!(recipe.len(), 4, "{printed}");
    let status = Command::new("sh").args(["-e", "-c", &recipe.join("\n")]).stderr(std::process::Stdio::null()).status();
    assert!(status.unwrap().success(), "{recipe:?}");
    let key = fs::metadata(bench.path("the app.key")).unwrap();
    assert_eq!((key.uid(), key.mode() & 0o777), (OWNER, 0o600));
    // As the service's user.
    let mut check = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    std::os::unix::process::CommandExt::uid(&mut check, OWNER);
    std::os::unix::process::CommandExt::gid(&mut check, OWNER);
    let output = check.arg("check").arg("--config").arg(bench.path("packetboat.toml")).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    // From now on the steps name the certificate's thumbprint.
    let printed = out(&bench.run(&["setup"], &text));
    assert!(printed.contains("(Thumbprint ") && !printed.contains("openssl req"), "{printed}");
}

/// A credential is root's: systemd reads it, and hands it to the service when it starts.
#[test]
fn the_printed_commands_for_a_credential_restart_the_service() {
    let bench = Bench::new();
    let keys =
        format!("client_id = {ZEROS:?}\ncertificate = {:?}\nkey = \"credential:app.key\"\n", bench.path("app.pem"));
    let text = identity("office", &keys) + &accounts("office", &MAILBOXES[..1]) + &listeners(&["imap"]);
    let printed = out(&bench.run(&["setup"], &text));
    for part in [
        "-keyout /etc/packetboat/credentials/app.key -out ",
        "chmod 600 /etc/packetboat/credentials/app.key",
        "systemctl restart packetboat",
    ] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
    assert!(!printed.contains("chown"), "{printed}");
    // Zeros are nobody's id: no line repeats them.
    assert!(!printed.contains(ZEROS) && printed.contains("New registration"), "{printed}");
}

/// The PowerShell of the documentation.
#[test]
fn the_documented_powershell_calls_documented_commands() {
    let page = include_str!("../../docs/entra.md");
    let blocks: Vec<&str> =
        page.split("```powershell\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4, "{}", blocks.len());
    for block in blocks {
        let script = Script::parse(block);
        assert!(script.mistakes().is_empty(), "{:?}\n{block}", script.mistakes());
        let unknown = Documented::read().unknown(&script);
        assert!(unknown.is_empty(), "{unknown:?}\n{block}");
    }
}
