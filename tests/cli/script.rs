//! packetboat.ps1 played against a pretend tenant: what it changes, what it leaves, and what it prints.

mod sending;

use super::setup::{ID, MAILBOXES, ZEROS, accounts, identity, listeners, powershell_of};
use super::tenant::{Mailbox, Tenant};
use super::*;

/// A configuration with certificate, and the script for it.
struct Scene {
    bench: Bench,
    certificate: Vec<u8>,
    mailboxes: &'static [&'static str],
    client_id: String,
    protocols: &'static [&'static str],
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        bench.certificate("app", &rsa());
        let pem = fs::read(bench.path("app.pem")).unwrap();
        let certificate = X509::from_pem(&pem).unwrap().to_der().unwrap();
        Self { bench, certificate, mailboxes: &MAILBOXES, client_id: ZEROS.to_owned(), protocols: &["imap", "pop3"] }
    }

    fn script(&self, arguments: &[&str]) -> String {
        self.bench.script(arguments, &self.configuration())
    }

    /// The output of `packetboat setup`.
    fn printed(&self, arguments: &[&str]) -> String {
        out(&self.bench.run(&[&["setup"], arguments].concat(), &self.configuration()))
    }

    fn configuration(&self) -> String {
        let keys = self.bench.with_certificate("app", &self.client_id);
        identity("office", &keys) + &accounts("office", self.mailboxes) + &listeners(self.protocols)
    }

    fn opens_all(&self, tenant: &Tenant) -> bool {
        self.mailboxes.iter().all(|mailbox| {
            ["IMAP.AccessAsApp", "POP.AccessAsApp"].iter().all(|one| tenant.opens(&self.certificate, mailbox, one))
        })
    }
}

#[test]
fn the_first_run_does_everything_and_the_second_nothing() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    let script = scene.script(&[]);
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(scene.opens_all(&tenant), "{printed}");
    // Registration, enterprise application, two consents, service principal; right and two protocols of each mailbox.
    assert_eq!(tenant.changes.len(), 5 + 3 * MAILBOXES.len(), "{:?}", tenant.changes);
    let id = tenant.applications[0].client_id.clone();
    assert!(printed.contains(&format!("Client id of [identity.office]: {id}")), "{printed}");
    let next = match Command::new(env!("CARGO_BIN_EXE_packetboat")).args(["init", "--help"]).output() {
        Ok(help) if out(&help).contains("--finish") => format!("packetboat init --finish {id}"),
        _ => format!("put {id} into client_id of [identity.office], then: packetboat reload"),
    };
    assert!(printed.ends_with(&format!("Next, on packetboat's computer: {next}")), "{printed}");
    assert_eq!(tenant.sign_ins, ["graph contoso.example Global", "exchange O365Default admin@contoso.example"]);
    assert_eq!(tenant.applications[0].name, "packetboat office");

    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    assert!(
        printed.contains(&format!("already right  app registration 'packetboat office', client id {id}")),
        "{printed}"
    );
    assert!(printed.contains("already right  scans@contoso.example: FullAccess"), "{printed}");
    assert!(printed.contains("Exchange: 0 changed, 28 already right, 0 failed."), "{printed}");
    assert!(printed.contains("All: 0 changed, 6 already right, 0 failed."), "{printed}");
    // The same with the id in the configuration.
    let scene = Scene { client_id: id, ..scene };
    let (_, printed) = tenant.run(&scene.script(&[]), &[]);
    assert!(tenant.changes.is_empty() && printed.contains("computer: packetboat check --online"), "{printed}");
}

#[test]
fn what_if_changes_nothing_and_prints_every_change() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    let (code, printed) = tenant.run(&scene.script(&[]), &["-WhatIf"]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    assert!(tenant.applications.is_empty() && tenant.principals.is_empty());
    for words in [
        "would          packetboat office: register the application, with its certificate",
        "would          packetboat office: make the service principal in Exchange",
        "would          o'neill@contoso.example: give the application FullAccess",
        "would          $x@contoso.example: switch POP on",
    ] {
        assert!(printed.contains(words), "{words}\n{printed}");
    }
    tenant.run(&scene.script(&[]), &[]);
    let (code, printed) = tenant.run(&scene.script(&[]), &["-Undo", "-WhatIf"]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    assert!(printed.contains("would          packetboat office: remove the app registration"), "{printed}");
    assert!(scene.opens_all(&tenant));
}

#[test]
fn a_new_mailbox_needs_its_own_changes_alone() {
    let scene = Scene { mailboxes: &MAILBOXES[..2], ..Scene::new() };
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    let scene = Scene { mailboxes: &MAILBOXES[..3], ..scene };
    let new =
        ["Add-MailboxPermission", "Set-CASMailbox", "Set-CASMailbox"].map(|name| format!("{name} {}", MAILBOXES[2]));
    let mut other = tenant.clone();
    for arguments in [&[][..], &["--account", "office2"]] {
        tenant = other.clone();
        let (code, printed) = tenant.run(&scene.script(arguments), &[]);
        assert_eq!((code, &tenant.changes[..]), (0, &new[..]), "{printed}");
        assert!(scene.opens_all(&tenant));
    }
    // The account's script takes the account's right away, and no other.
    let (code, printed) = tenant.run(&scene.script(&["--account", "office2"]), &["-Undo"]);
    assert_eq!(
        (code, &tenant.changes[..]),
        (0, &[format!("Remove-MailboxPermission {}", MAILBOXES[2])][..]),
        "{printed}"
    );
    other.mailboxes.clone_from(&tenant.mailboxes);
    assert!(other.opens(&scene.certificate, MAILBOXES[1], "IMAP.AccessAsApp"));
    assert!(!other.opens(&scene.certificate, MAILBOXES[2], "IMAP.AccessAsApp"));
}

#[test]
fn undo_takes_away_what_the_script_made() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    let (code, printed) = tenant.run(&scene.script(&[]), &["-Undo"]);
    assert_eq!(code, 0, "{printed}");
    assert!(tenant.applications.is_empty() && tenant.principals.is_empty() && tenant.enterprises.len() == 1);
    assert!(tenant.mailboxes.values().all(|one| one.full_access.is_empty() && one.imap && one.pop), "{printed}");
    let (code, printed) = tenant.run(&scene.script(&[]), &["-Undo"]);
    assert_eq!((code, &tenant.changes[..]), (0, &[][..]), "{printed}");
    assert!(printed.contains("already right  the tenant has no such application"), "{printed}");
}

/// A registration that somebody made keeps its certificates and permissions, and stays after -Undo.
#[test]
fn an_application_of_somebody_else_keeps_what_it_has() {
    let mut scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    let mine = tenant.register("Mail proxy", &[(b"another certificate", "CN=old")]);
    let exchange = tenant.enterprises[0].1.clone();
    tenant.applications[0].permissions =
        vec![("graph".into(), "User.Read".into()), (exchange.clone(), "Mail.Read".into())];
    scene.client_id = mine.client_id;
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(scene.opens_all(&tenant), "{printed}");
    let one = &tenant.applications[0];
    assert_eq!(one.certificates[0], (b"another certificate".to_vec(), "CN=old".to_owned()));
    assert_eq!(one.certificates[1], (scene.certificate.clone(), "packetboat.ps1".to_owned()));
    let of_exchange =
        ["Mail.Read", "IMAP.AccessAsApp", "POP.AccessAsApp"].map(|one| (exchange.clone(), one.to_owned()));
    let permissions: Vec<_> = [("graph".to_owned(), "User.Read".to_owned())].into_iter().chain(of_exchange).collect();
    assert_eq!(one.permissions, permissions);
    tenant.consents.push(("x".into(), tenant.enterprises[1].0.clone(), "Mail.Read".into()));
    let (code, printed) = tenant.run(&scene.script(&[]), &["-Undo"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(tenant.applications[0].certificates, [(b"another certificate".to_vec(), "CN=old".to_owned())]);
    assert_eq!(tenant.consents.len(), 1, "the consent to Mail.Read is not the script's");
    assert!(tenant.principals.is_empty() && tenant.mailboxes.values().all(|one| one.full_access.is_empty()));
}

/// The trap of Exchange: it takes the object id of the app registration, and no login works.
#[test]
fn a_service_principal_with_the_wrong_object_id_is_replaced() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    let right = tenant.principals[0].1.clone();
    tenant.principals[0].1 = tenant.applications[0].id.clone();
    tenant.principals.push(("other-application".to_owned(), "other-object".to_owned()));
    assert!(!scene.opens_all(&tenant));
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(tenant.changes, ["remove the service principal", "make the service principal"]);
    assert!(scene.opens_all(&tenant) && tenant.principals[1].1 == right);
    assert_eq!(tenant.principals[0].1, "other-object");
}

/// Anybody may register an application of that name, and wait for its rights.
#[test]
fn an_application_of_the_same_name_gets_nothing() {
    let scene = Scene::new();
    for certificates in [&[][..], &[(&b"a stranger's"[..], "packetboat.ps1")]] {
        let mut tenant = Tenant::new(&MAILBOXES);
        tenant.register("packetboat office", certificates);
        let (code, printed) = tenant.run(&scene.script(&[]), &[]);
        assert_eq!((code, &tenant.changes[..]), (1, &[][..]), "{printed}");
        assert!(
            printed.contains("has an app registration 'packetboat office' without packetboat's certificate"),
            "{printed}"
        );
    }
    // Beside the right one it is one too many.
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    tenant.register("packetboat office", &[(&scene.certificate, "packetboat.ps1")]);
    assert_eq!(tenant.run(&scene.script(&[]), &[]).0, 1);
    assert!(tenant.changes.is_empty());
    // A client id that the tenant does not know is a mistake, and no reason to register.
    let scene = Scene { client_id: ID.to_owned(), ..scene };
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!((code, &tenant.changes[..]), (1, &[][..]), "{printed}");
    assert!(printed.contains("no app registration with the client id"), "{printed}");
}

#[test]
fn a_missing_mailbox_does_not_stop_the_others() {
    let scene = Scene { mailboxes: &MAILBOXES[..3], ..Scene::new() };
    let mut tenant = Tenant::new(&MAILBOXES[1..]);
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("FAILED         scans@contoso.example: is the address right?"), "{printed}");
    for mailbox in &MAILBOXES[1..3] {
        assert!(tenant.opens(&scene.certificate, mailbox, "IMAP.AccessAsApp"), "{printed}");
    }
    // Not one of them: this is another organization.
    let mut tenant = Tenant::new(&["boss@fabrikam.example"]);
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(tenant.principals.is_empty(), "{printed}");
    assert!(printed.contains("has none of the mailboxes: nothing was changed in Exchange"), "{printed}");
}

#[test]
fn a_slow_directory_is_waited_for() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.delay = 5;
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!((code, tenant.slept), (0, 5), "{printed}");
    assert!(scene.opens_all(&tenant));
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.delay = 100;
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!((code, tenant.slept), (1, 11), "{printed}");
    // The next run goes on from there, and registers nothing twice.
    tenant.delay = 0;
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert!(code == 0 && tenant.applications.len() == 1 && scene.opens_all(&tenant), "{printed}");
}

#[test]
fn missing_modules_are_named_and_not_installed() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.modules = ["Microsoft.Graph.Authentication"].into();
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("Install-Module Microsoft.Graph.Applications -Scope CurrentUser"), "{printed}");
    assert!(tenant.sign_ins.is_empty() && tenant.changes.is_empty());
    tenant.modules.insert("Microsoft.Graph.Applications");
    let (code, printed) = tenant.run(&scene.script(&[]), &[]);
    assert!(code == 1 && printed.contains("Install-Module ExchangeOnlineManagement"), "{printed}");
    assert!(tenant.sign_ins.is_empty() && tenant.changes.is_empty());
}

/// The command that the first administrator gets works for the second.
#[test]
fn two_administrators_do_a_part_each() {
    let scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    let script = scene.script(&[]);
    let (code, printed) = tenant.run(&script, &["-Part", "Entra"]);
    assert_eq!(code, 0, "{printed}");
    assert!(tenant.principals.is_empty() && tenant.consents.len() == 2, "{printed}");
    let command = printed.lines().find(|line| line.contains("-Part Exchange")).unwrap();
    let arguments: Vec<&str> = command.split_once("./packetboat.ps1 ").unwrap().1.split(' ').collect();
    let (code, printed) = tenant.run(&script, &arguments);
    assert_eq!(code, 0, "{printed}");
    assert!(scene.opens_all(&tenant), "{printed}");
    let (code, printed) = tenant.run(&script, &["-Part", "Exchange"]);
    assert!(code == 1 && printed.contains("name the application with -ClientId"), "{printed}");
}

/// The printed lines, as an administrator pastes them.
#[test]
fn printed_lines_do_what_the_script_does() {
    let mut scene = Scene::new();
    let mut tenant = Tenant::new(&MAILBOXES);
    tenant.run(&scene.script(&[]), &[]);
    scene.client_id = tenant.applications[0].client_id.clone();
    let object = tenant.principals[0].1.clone();
    // All of them, by hand, in a tenant that knows the application and nothing of it in Exchange.
    for mailbox in tenant.mailboxes.values_mut() {
        *mailbox = Mailbox::default();
    }
    tenant.principals.clear();
    let lines = powershell_of(&scene.printed(&[])).replace("OBJECT ID OF THE ENTERPRISE APPLICATION", &object);
    for _ in 0..2 {
        let (code, printed) = tenant.run(&lines, &[]);
        assert!(code == 0 && scene.opens_all(&tenant), "{printed}\n{lines}");
    }
    // One account, which comes later.
    let mailbox = MAILBOXES[5];
    tenant.mailboxes.insert(mailbox.to_owned(), Mailbox::default());
    let lines = scene.printed(&["--account", "office5"]);
    let (code, printed) = tenant.run(&lines, &[]);
    assert!(code == 0 && scene.opens_all(&tenant), "{printed}\n{lines}");
    // And the line that takes its right away.
    let lines = lines.replace("# Remove-MailboxPermission", "Remove-MailboxPermission");
    let (code, printed) = tenant.run(&lines, &[]);
    assert!(code == 0 && tenant.mailboxes[mailbox].full_access.is_empty(), "{printed}\n{lines}");
    assert!(tenant.mailboxes.values().filter(|one| one.full_access.is_empty()).count() == 1);
    // Without the application in Exchange they say what to do.
    tenant.principals.clear();
    let (code, printed) = tenant.run(&lines, &[]);
    assert!(code == 1 && tenant.changes.is_empty() && printed.contains("see packetboat setup"), "{printed}");
}

/// Two identities of one file, in two tenants: each has its own application, certificate and sign-ins.
#[test]
fn each_identity_gets_its_own_application() {
    let scene = Scene::new();
    let text = identity("office", &scene.bench.with_certificate("app", ZEROS))
        + &accounts("office", &MAILBOXES[..1])
        + &identity("other", &scene.bench.with_certificate("other", ZEROS)).replace("contoso", "fabrikam")
        + &accounts("other", &MAILBOXES[1..3])
        + &listeners(&["pop3"]);
    let script = scene.bench.script(&[], &text);
    let mut tenant = Tenant::new(&MAILBOXES);
    let (code, printed) = tenant.run(&script, &[]);
    assert_eq!(code, 0, "{printed}");
    let names: Vec<&String> = tenant.applications.iter().map(|one| &one.name).collect();
    assert_eq!(names, ["packetboat office", "packetboat other"]);
    let other = X509::from_pem(&fs::read(scene.bench.path("other.pem")).unwrap()).unwrap().to_der().unwrap();
    let opens = |certificate: &[u8], mailbox: &str| tenant.opens(certificate, mailbox, "POP.AccessAsApp");
    assert!(opens(&scene.certificate, MAILBOXES[0]) && !opens(&other, MAILBOXES[0]));
    assert!(opens(&other, MAILBOXES[2]) && !opens(&scene.certificate, MAILBOXES[2]));
    assert!(!tenant.opens(&other, MAILBOXES[2], "IMAP.AccessAsApp"), "no listener offers IMAP");
    assert_eq!(tenant.sign_ins[2..], ["graph fabrikam.example Global", "exchange O365Default admin@contoso.example"]);
    tenant.run(&script, &[]);
    assert!(tenant.changes.is_empty(), "{:?}", tenant.changes);
}

/// The tests above fail for a script with a slip in it.
#[test]
fn a_script_with_a_slip_does_not_pass() {
    let scene = Scene { mailboxes: &MAILBOXES[..2], ..Scene::new() };
    let good = scene.script(&[]);
    let is_right = |script: &str| {
        let mut tenant = Tenant::new(&MAILBOXES);
        let first = tenant.run(script, &[]).0 == 0 && scene.opens_all(&tenant);
        let second = tenant.run(script, &[]).0 == 0 && tenant.changes.is_empty();
        let undone = tenant.run(script, &["-Undo"]).0 == 0 && tenant.principals.is_empty();
        first && second && undone && tenant.applications.is_empty()
    };
    assert!(is_right(&good));
    for (old, new) in [
        ("-ResourceId $Exchange.Id -AppRoleId $Role.Id", "-ResourceId $Exchange.Id -AppRoleId $Exchange.Id"),
        ("if ($One.PopEnabled) {", "if (-not $One.PopEnabled) {"),
        ("-AppId $AppId -ObjectId $ObjectId", "-AppId $AppId -ObjectId $AppId"),
        ("@($_.AccessRights) -match 'FullAccess'", "@($_.AccessRights) -match 'SendAs'"),
        ("-Property 'keyCredentials'", "-Property 'id'"),
        ("if ($Application.Tags -contains $Mark) {", "if ($Application.Tags -notcontains $Mark) {"),
        ("if ($IsWhole -and (Confirm", "if (-not $IsWhole -and (Confirm"),
        (
            "-ErrorAction Stop\n    } | Out-Null\n    Write-Change \"service",
            "-ErrorAction Stop\n    }\n    Write-Change \"service",
        ),
    ] {
        assert!(good.contains(old), "{old}");
        let slip = good.replacen(old, new, 1);
        let result = std::panic::catch_unwind(|| is_right(&slip));
        assert!(!result.unwrap_or(false), "{new}");
    }
}
