//! These tests prove that packetboat.ps1 and the printed lines let an application send, and nothing more.

use super::super::tenant::Assignment;
use super::*;

/// An application that sends has a role for its mailboxes, and no permission in its token.
#[test]
fn a_script_lets_the_application_send() {
    let scene = Scene { protocols: &["smtp"], mailboxes: &MAILBOXES[..3], ..Scene::new() };
    let mut tenant = Tenant::new(&MAILBOXES);
    let script = scene.script(&[]);
    let (code, printed) = tenant.run(&script, &["-WhatIf"]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    for words in [
        "would          o'neill@contoso.example: make a management scope",
        "would          o'neill@contoso.example: give the application the role Application SMTP.SendAsApp",
        "would          scans@contoso.example: switch SMTP AUTH on",
    ] {
        assert!(printed.contains(words), "{words}\n{printed}");
    }
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!(code, 0, "{printed}");
    for mailbox in scene.mailboxes {
        assert!(tenant.sends(&scene.certificate, mailbox), "{mailbox}\n{printed}");
        assert!(tenant.mailboxes[*mailbox].full_access.is_empty(), "it reads nothing");
    }
    // Registration, enterprise application, service principal; scope, role and switch of each mailbox.
    assert_eq!(tenant.changes.len(), 3 + 3 * 3, "{:?}", tenant.changes);
    assert!(tenant.consents.is_empty() && tenant.applications[0].permissions.is_empty());
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    // Another program has the role for one of the mailboxes as well: its scope stays.
    let other = Assignment { holder: "other".to_owned(), id: "other".to_owned(), ..tenant.assignments[0].clone() };
    tenant.assignments.push(other.clone());
    let (code, printed) = tenant.run(&script, &["-Undo"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!((&tenant.assignments[..], tenant.scopes.len()), (&[other][..], 1), "{printed}");
    assert!(tenant.applications.is_empty() && tenant.principals.is_empty());
}

/// Exchange refuses names of scopes with more than 64 characters. Script and printed lines shorten a name alike.
#[test]
fn long_addresses_have_scopes_too() {
    let long = &[
        "scan-to-mail-of-the-office-scan-to-mail-of-the-office-a@contoso.example",
        "scan-to-mail-of-the-office-scan-to-mail-of-the-office-b@contoso.example",
    ];
    let mut scene = Scene { protocols: &["smtp"], mailboxes: long, ..Scene::new() };
    let mut tenant = Tenant::new(long);
    let script = scene.script(&[]);
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(long.iter().all(|mailbox| tenant.sends(&scene.certificate, mailbox)), "{printed}");
    assert_eq!(tenant.scopes.len(), 2, "{:?}", tenant.scopes);
    scene.client_id = tenant.applications[0].client_id.clone();
    let steps = scene.printed(&[]);
    assert!(tenant.scopes.iter().all(|(name, _)| steps.contains(&format!("-Name '{name}'"))), "{steps}");
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    let (code, printed) = tenant.run(&script, &["-Undo"]);
    assert_eq!((code, tenant.scopes.len(), tenant.assignments.len()), (0, 0, 0), "{printed}");
}

/// A mailbox that is read and sends gets both, whichever comes first.
#[test]
fn sending_is_added_to_reading() {
    let mut scene = Scene { mailboxes: &MAILBOXES[..2], ..Scene::new() };
    let mut tenant = Tenant::new(&MAILBOXES);
    assert_eq!(tenant.run(&scene.script(&[]), &[]).0, 0);
    assert!(scene.opens_all(&tenant) && !tenant.sends(&scene.certificate, MAILBOXES[0]));
    scene.protocols = &["imap", "pop3", "smtp"];
    let (code, printed) = tenant.run(&scene.script(&["--account", "office1"]), &[]);
    assert_eq!(code, 0, "{printed}");
    let new = ["New-ManagementScope packetboat ", "New-ManagementRoleAssignment packetboat ", "Set-CASMailbox "]
        .map(|begin| format!("{begin}{}", MAILBOXES[1]));
    assert_eq!(tenant.changes, new);
    assert!(tenant.sends(&scene.certificate, MAILBOXES[1]) && !tenant.sends(&scene.certificate, MAILBOXES[0]));
    // The account's script takes the account's rights away, and no other.
    assert_eq!(tenant.run(&scene.script(&[]), &[]).0, 0);
    let (code, printed) = tenant.run(&scene.script(&["--account", "office1"]), &["-Undo"]);
    assert_eq!(code, 0, "{printed}");
    assert!(tenant.sends(&scene.certificate, MAILBOXES[0]) && !tenant.sends(&scene.certificate, MAILBOXES[1]));
    assert_eq!(tenant.scopes.len(), 1, "{:?}", tenant.scopes);
}

/// The printed lines for sending, as an administrator pastes them.
#[test]
fn printed_lines_let_the_application_send() {
    let mut scene = Scene { protocols: &["smtp"], ..Scene::new() };
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    scene.client_id = tenant.applications[0].client_id.clone();
    let object = tenant.principals[0].1.clone();
    tenant.mailboxes.values_mut().for_each(|mailbox| *mailbox = Mailbox::default());
    (tenant.principals, tenant.scopes, tenant.assignments) = Default::default();
    let steps = scene.printed(&[]);
    assert!(steps.contains("security defaults") && steps.contains("no API permissions"), "{steps}");
    let lines = powershell_of(&steps).replace("OBJECT ID OF THE ENTERPRISE APPLICATION", &object);
    for _ in 0..2 {
        let (code, printed) = tenant.run(&lines, &[]);
        assert_eq!(code, 0, "{printed}\n{lines}");
        assert!(MAILBOXES.iter().all(|mailbox| tenant.sends(&scene.certificate, mailbox)), "{printed}\n{lines}");
        assert_eq!(tenant.assignments.len(), MAILBOXES.len());
    }
    // The lines of one account that take its rights away.
    let lines = scene.printed(&["--account", "office5"]);
    let (_, removal) = lines.split_once("# To take the access away later:\n").unwrap();
    let object = "Connect-ExchangeOnline\n$object = (Get-ServicePrincipal | Select-Object -First 1).ObjectId\n";
    let removal: String =
        removal.lines().filter_map(|line| line.strip_prefix("# ")).map(|line| format!("{line}\n")).collect();
    let (code, printed) = tenant.run(&(object.to_owned() + &removal), &[]);
    assert_eq!(code, 0, "{printed}\n{removal}");
    let rest: Vec<_> = MAILBOXES.iter().filter(|mailbox| !tenant.sends(&scene.certificate, mailbox)).collect();
    assert_eq!(rest, [&MAILBOXES[5]]);
}

/// The tests of sending fail for a script with a slip in it.
#[test]
fn a_script_that_sends_with_a_slip_does_not_pass() {
    let scene = Scene { protocols: &["smtp"], mailboxes: &MAILBOXES[..2], ..Scene::new() };
    let good = scene.script(&[]);
    let is_right = |script: &str| {
        let mut tenant = Tenant::new(&MAILBOXES);
        let first = tenant.run(script, &[]).0 == 0;
        let sends = scene.mailboxes.iter().all(|mailbox| tenant.sends(&scene.certificate, mailbox));
        let second = tenant.run(script, &[]).0 == 0 && tenant.changes.is_empty();
        let undone = tenant.run(script, &["-Undo"]).0 == 0 && tenant.scopes.is_empty() && tenant.assignments.is_empty();
        first && sends && second && undone
    };
    assert!(is_right(&good));
    for (old, new) in [
        ("$Mailbox.Replace(\"'\", \"''\")", "$Mailbox"),
        ("-App $User -Role", "-App $Scope -Role"),
        ("-SmtpClientAuthenticationDisabled $false", "-SmtpClientAuthenticationDisabled $true"),
        ("'Application SMTP.SendAsApp'", "'Application Mail.Send'"),
        ("if ($One.Sends) { Set-Sending", "if (-not $One.Sends) { Set-Sending"),
        ("if (@(Get-SendingRole $Scope).Count -eq 0) {", "if (@(Get-SendingRole $Scope).Count -ne 0) {"),
    ] {
        assert!(good.contains(old), "{old}");
        let slip = good.replacen(old, new, 1);
        let result = std::panic::catch_unwind(|| is_right(&slip));
        assert!(!result.unwrap_or(false), "{new}");
    }
}
