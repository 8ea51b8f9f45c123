//! The steps at Microsoft or Google that a configuration needs, as text.

use std::fmt::Write as _;

use super::powershell::{User, mailbox_lines, quote, removal_lines};
use super::{environments, known_id, offers, permissions, proof};
use crate::cli::error::CommandError;
use crate::cli::output::print;
use crate::config::{Account, Cloud, Config, Credential, Grant, Identity};
use crate::protocol::{Actor, Protocol};
use crate::transport::http;

/// Prints the steps.
pub(super) fn print_steps(config: &Config) -> Result<(), CommandError> {
    if config.identities.is_empty() {
        return print(
            "There is no [identity.NAME] in the configuration yet. Write one, with a made-up tenant and client_id if \
             need be, and an [account.NAME] for each mailbox; then this prints the steps for them. \
             docs/entra.md shows how.\n",
        );
    }
    let mut text = String::new();
    for (name, identity) in &config.identities {
        let accounts: Vec<&Account> = config.accounts.values().filter(|account| account.identity == *name).collect();
        let of = if identity.tokens_are_of_cloud { cloud_name(identity.cloud) } else { "an endpoint of its own" };
        let _ = writeln!(text, "# Identity \"{name}\": {}, {of}\n", identity.grant.name());
        if has_script(identity) {
            text.push_str(SCRIPT);
        }
        if !identity.tokens_are_of_cloud {
            elsewhere(&mut text, config, (name, identity), &accounts);
        } else if identity.cloud.is_microsoft() {
            microsoft(&mut text, config, (name, identity), &accounts);
        } else {
            google(&mut text, config, name, &accounts);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "# Then\n\n    packetboat check --online\n");
    if config.identities.values().any(Identity::is_of_microsoft) {
        let _ = writeln!(text, "Permissions in Exchange take from minutes to an hour or two until they count.");
    }
    print(text)
}

fn microsoft(text: &mut String, config: &Config, (name, identity): (&str, &Identity), accounts: &[&Account]) {
    let mut step = Steps::default();
    if identity.grant == Grant::ManagedIdentity {
        step.write(
            text,
            "Switch a managed identity on for this machine (Azure portal: the machine, Security, Identity).",
        );
        step.write(text, "Give it its permissions, in PowerShell 7, as a privileged role administrator:\n");
        assign_roles(text, identity, config);
    } else {
        register(text, &mut step, config, identity);
    }
    step.write(text, "In PowerShell 7 (a session of its own), as an Exchange administrator:\n");
    powershell(text, identity, accounts, config);
    if offers(config, Protocol::Smtp) {
        sending(text, &mut step, identity);
    }
    log_in(text, &mut step, config, name);
}

/// The app registration: what it may do, who may be it, and the consent to that.
fn register(text: &mut String, step: &mut Steps, config: &Config, identity: &Identity) {
    let is_of_a_person = identity.grant.is_of_a_person();
    let registration = match known_id(identity) {
        Some(id) => format!("App registrations, the one with Application (client) ID {id}."),
        None => {
            "App registrations, New registration, for this directory only, without a redirect address; then put its \
                 Application (client) ID into client_id."
                .to_owned()
        }
    };
    step.write(text, &format!("{}: {registration}", portal(identity.cloud)));
    let wanted = permissions(config, identity.grant.actor());
    if wanted.is_empty() {
        step.write(text, "There: no API permissions. The application sends by a role in Exchange, see below.");
    } else {
        step.write(
            text,
            &format!(
                "There: API permissions, Add a permission, APIs my organization uses, \"Office 365 Exchange Online\", {} \
                 permissions: {}. Do not take the permissions with the same names under Microsoft Graph: \
                 they do nothing here.",
                if is_of_a_person { "Delegated" } else { "Application" },
                wanted.join(" and ")
            ),
        );
    }
    if is_of_a_person {
        platform(text, step, identity);
    }
    for proof in proof::steps(config, identity) {
        step.write(text, &proof);
    }
    if !wanted.is_empty() {
        agree(text, step, identity);
    }
    if matches!(identity.grant, Grant::DeviceCode(_)) {
        step.write(
            text,
            "Conditional Access: exclude the application or the account from \"Block device code flow\", which \
             Microsoft switches on by itself; or use grant = \"authorization-code\".",
        );
    }
}

/// The consent of an administrator.
fn agree(text: &mut String, step: &mut Steps, identity: &Identity) {
    let mut agree = String::from("There, as an administrator: API permissions, Grant admin consent.");
    if known_id(identity).is_some() {
        let _ = write!(
            agree,
            " Or by this address, where http://localhost is registered as a redirect address (it leads to a page that \
             does not open, which does not matter): {}",
            consent(identity)
        );
    }
    step.write(text, &agree);
}

/// Writes the settings at Microsoft that sending needs besides the rights.
fn sending(text: &mut String, step: &mut Steps, identity: &Identity) {
    step.write(
        text,
        "Sending: security defaults (Entra, Overview, Properties) block SMTP AUTH, also with a token. Where they are on, \
         replace them by Conditional Access.",
    );
    if !identity.grant.is_of_a_person() {
        step.write(
            text,
            "Sending without a role (instead of New-ManagementScope and New-ManagementRoleAssignment): the application \
             permission SMTP.SendAsApp of Office 365 Exchange Online with admin consent, and Add-MailboxPermission as \
             for reading. Not both: with the permission in the token, Exchange looks for FullAccess.",
        );
    }
    step.write(
        text,
        "A device that sends as another address than the mailbox: packetboat writes the mailbox into From, and the \
         other address into Reply-To. To keep the address, grant the mailbox SendAs on it (Add-RecipientPermission), and \
         write it into senders of the account. Exchange keeps each message in Sent Items: give that folder a retention \
         policy.",
    );
}

/// The platform: where the browser comes back to, and whether the application can keep a secret.
fn platform(text: &mut String, step: &mut Steps, identity: &Identity) {
    let has_secret = matches!(
        &identity.grant,
        Grant::AuthorizationCode(Some(_)) | Grant::DeviceCode(Some(_)) | Grant::Password(Some(_))
    );
    let words = if has_secret {
        "There: Authentication, Add a platform, Web, http://localhost. (With a client secret the application is no \
         public client; without one, which is simpler, it would be Mobile and desktop applications.)"
    } else {
        "There: Authentication, Add a platform, Mobile and desktop applications, http://localhost; and switch \"Allow \
         public client flows\" on."
    };
    step.write(text, words);
}

fn powershell(text: &mut String, identity: &Identity, accounts: &[&Account], config: &Config) {
    let is_of_a_person = identity.grant.is_of_a_person();
    let mut line = |line: &str| {
        let _ = writeln!(text, "    {line}");
    };
    line("Install-Module ExchangeOnlineManagement -Scope CurrentUser");
    line(&connect_exchange(identity.cloud));
    if !is_of_a_person {
        line(
            "# From the portal: Enterprise applications, the application, Overview, Object ID. Not the Object ID under",
        );
        line("# App registrations: PowerShell accepts that one, and logins fail later without a reason.");
        line("$object = 'OBJECT ID OF THE ENTERPRISE APPLICATION'");
        let id = application(identity);
        line(&format!(
            "if (-not (Get-ServicePrincipal | Where-Object AppId -eq {id})) {{ New-ServicePrincipal -AppId {id} \
             -ObjectId $object -DisplayName packetboat }}"
        ));
    }
    for account in accounts {
        for command in mailbox_lines(config, account, &user_of(identity, account)) {
            line(&command);
        }
    }
    text.push('\n');
}

/// Prints the part of one account, which comes after the others.
pub(super) fn print_account(config: &Config, (name, account): (&str, &Account)) -> Result<(), CommandError> {
    let Some(identity) = config.identities.get(&account.identity) else { return Ok(()) };
    let mut text = String::new();
    if !identity.is_of_microsoft() {
        if identity.tokens_are_of_cloud {
            google_mailbox(&mut text, &mut Steps::default(), account);
        } else {
            elsewhere_mailbox(&mut text, &mut Steps::default(), config, account);
        }
    } else {
        let user = user_of(identity, account);
        let mut lines = vec![format!("# Account \"{name}\", in PowerShell 7, as an Exchange administrator:")];
        lines.push(connect_exchange(identity.cloud));
        if !identity.grant.is_of_a_person() {
            let id = application(identity);
            lines.push(format!("$object = (Get-ServicePrincipal | Where-Object AppId -eq {id}).ObjectId"));
            lines.push(
                "if (-not $object) { throw 'Exchange does not know the application: see packetboat setup' }".into(),
            );
        }
        lines.extend(mailbox_lines(config, account, &user));
        let removal = removal_lines(config, account, &user);
        if !removal.is_empty() {
            lines.push("# To take the access away later:".to_owned());
            lines.extend(removal.into_iter().map(|line| format!("# {line}")));
        }
        text.push_str(&lines.join("\n"));
        text.push('\n');
    }
    if identity.grant.needs_login() {
        let _ = writeln!(text, "\n# On this computer, unless {} has signed in: packetboat login {name}", account.user);
    }
    print(text)
}

/// Exchange's user that opens the mailbox.
fn user_of(identity: &Identity, account: &Account) -> User {
    if identity.grant.is_of_a_person() { User::Person(account.user.clone()) } else { User::Application }
}

/// The application's id, as PowerShell takes it.
fn application(identity: &Identity) -> String {
    quote(known_id(identity).unwrap_or("APPLICATION (CLIENT) ID"))
}

fn connect_exchange(cloud: Cloud) -> String {
    match (cloud, environments(cloud)) {
        (Cloud::Worldwide | Cloud::Google, _) => "Connect-ExchangeOnline".to_owned(),
        (_, [exchange, _]) => format!("Connect-ExchangeOnline -ExchangeEnvironmentName {exchange}"),
    }
}

/// A managed identity has no app registration: its permissions are given by Microsoft Graph.
fn assign_roles(text: &mut String, identity: &Identity, config: &Config) {
    let mut line = |line: &str| {
        let _ = writeln!(text, "    {line}");
    };
    line("Install-Module Microsoft.Graph.Applications -Scope CurrentUser");
    let [_, graph] = environments(identity.cloud);
    line(&format!(
        "Connect-MgGraph -Scopes 'Application.Read.All', 'AppRoleAssignment.ReadWrite.All' -Environment {graph}"
    ));
    line("# Object (principal) ID, as the portal shows it for the machine's identity.");
    line("$object = 'OBJECT ID OF THE IDENTITY'");
    line(&format!("$exchange = Get-MgServicePrincipal -Filter \"AppId eq '{EXCHANGE_APPLICATION}'\""));
    for permission in permissions(config, Actor::Application) {
        line(&format!("$role = $exchange.AppRoles | Where-Object Value -eq {permission}"));
        line(
            "New-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $object -PrincipalId $object -ResourceId \
             $exchange.Id -AppRoleId $role.Id",
        );
    }
    text.push('\n');
}

fn google(text: &mut String, config: &Config, name: &str, accounts: &[&Account]) {
    let mut step = Steps::default();
    step.write(
        text,
        "console.cloud.google.com: a project, APIs & Services, OAuth consent screen: Internal, scope \
         https://mail.google.com/.",
    );
    step.write(
        text,
        "There: Credentials, Create credentials, OAuth client ID, Desktop app; its id into client_id, its secret into \
         client_secret_file.",
    );
    for account in accounts {
        google_mailbox(text, &mut step, account);
    }
    log_in(text, &mut step, config, name);
}

/// The steps at an issuer that is neither Microsoft nor Google.
fn elsewhere(text: &mut String, config: &Config, (name, identity): (&str, &Identity), accounts: &[&Account]) {
    let mut step = Steps::default();
    let endpoint = &identity.token_endpoint;
    step.write(text, &format!("At {endpoint}: register a client with the id {}.", identity.client_id));
    for account in accounts {
        elsewhere_mailbox(text, &mut step, config, account);
    }
    log_in(text, &mut step, config, name);
}

fn google_mailbox(text: &mut String, step: &mut Steps, account: &Account) {
    step.write(text, &format!("In the settings of {}: Forwarding and POP/IMAP, switch both on.", account.mailbox));
}

fn elsewhere_mailbox(text: &mut String, step: &mut Steps, config: &Config, account: &Account) {
    let servers = config.servers_of(account).join(" and ");
    step.write(text, &format!("At {servers}: take its tokens for {}, by XOAUTH2.", account.mailbox));
}

fn log_in(text: &mut String, step: &mut Steps, config: &Config, name: &str) {
    let logins = logins(config, name);
    if !logins.is_empty() {
        step.write(text, "On this computer, as the user that packetboat runs as:\n");
        for login in logins {
            let _ = writeln!(text, "    packetboat login {login}");
        }
    }
}

/// The address at which an administrator consents to the application's permissions.
fn consent(identity: &Identity) -> String {
    let base = format!("{}/{}", identity.authority, identity.tenant);
    if identity.grant.is_of_a_person() {
        let scope = identity.scope.replace(" offline_access", "");
        let query =
            [("client_id", identity.client_id.as_str()), ("scope", &scope), ("redirect_uri", "http://localhost")];
        format!("{base}/v2.0/adminconsent?{}", http::encode(&query).as_str())
    } else {
        let query = [("client_id", identity.client_id.as_str()), ("redirect_uri", "http://localhost")];
        format!("{base}/adminconsent?{}", http::encode(&query).as_str())
    }
}

/// The accounts that need a sign-in: one account for each person.
fn logins<'a>(config: &'a Config, identity: &str) -> Vec<&'a str> {
    let needs_login = config.identities.get(identity).is_some_and(|identity| identity.grant.needs_login());
    let mut people = Vec::new();
    let mut names = Vec::new();
    for (name, account) in config.accounts.iter().filter(|(_, account)| needs_login && account.identity == identity) {
        let person = account.user.to_lowercase();
        if !people.contains(&person) {
            people.push(person);
            names.push(name.as_str());
        }
    }
    names
}

fn portal(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Worldwide => "https://entra.microsoft.com",
        Cloud::GccHigh | Cloud::Dod => "https://entra.microsoft.us",
        Cloud::China => "https://entra.microsoftonline.cn",
        Cloud::Google => "https://console.cloud.google.com",
    }
}

fn cloud_name(cloud: Cloud) -> &'static str {
    Cloud::ALL.into_iter().find(|(_, one)| *one == cloud).map_or("", |(name, _)| name)
}

/// Returns whether `packetboat setup --script` does the steps.
fn has_script(identity: &Identity) -> bool {
    matches!(identity.grant, Grant::ClientCredentials(Credential::Certificate(_))) && identity.is_of_microsoft()
}

const SCRIPT: &str = "\
The short way: packetboat setup --script writes packetboat.ps1, which does everything below. Key and certificate must
exist. By hand:

";

/// Numbers the steps.
#[derive(Default)]
struct Steps(u32);

impl Steps {
    fn write(&mut self, text: &mut String, step: &str) {
        self.0 += 1;
        let _ = writeln!(text, "{}. {step}", self.0);
    }
}

/// The application ID of Office 365 Exchange Online, the same in every tenant.
const EXCHANGE_APPLICATION: &str = "00000002-0000-0ff1-ce00-000000000000";
