//! `packetboat setup` prints the steps at Microsoft or Google that this configuration needs.

use std::fmt::Write as _;

use super::error::CommandError;
use super::output::print;
use crate::config::{Account, Cloud, Config, Credential, Grant, Identity};
use crate::protocol::{Actor, Protocol};
use crate::transport::downstream::certificate;
use crate::transport::http;

/// Prints the steps; the command itself contacts nobody.
pub(super) fn print_steps(config: &Config) -> Result<(), CommandError> {
    if config.identities.is_empty() {
        return print(
            "There is no [identity.NAME] in the configuration yet. Write one, with a made-up tenant and client_id if need be, and \
              an [account.NAME] for each mailbox; then this prints the steps for them. docs/entra.md shows how.\n",
        );
    }
    let mut text = String::new();
    for (name, identity) in &config.identities {
        let accounts: Vec<&Account> = config.accounts.values().filter(|account| account.identity == *name).collect();
        let of = if identity.tokens_are_of_cloud { cloud_name(identity.cloud) } else { "an endpoint of its own" };
        let _ = writeln!(text, "# Identity \"{name}\": {}, {of}\n", identity.grant.name());
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
    log_in(text, &mut step, config, name);
}

/// The app registration: what it may do, who may be it, and the consent to that.
fn register(text: &mut String, step: &mut Steps, config: &Config, identity: &Identity) {
    let is_of_a_person = identity.grant.is_of_a_person();
    let id = identity.client_id.as_str();
    step.write(
        text,
        &format!(
            "{}: App registrations, the one with Application (client) ID {id} (or New registration, for this directory only; \
             then put its id into client_id).",
            portal(identity.cloud)
        ),
    );
    step.write(
        text,
        &format!(
            "There: API permissions, Add a permission, APIs my organization uses, \"Office 365 Exchange Online\", {} permissions: \
             {}. (Not those of Microsoft Graph.)",
            if is_of_a_person { "Delegated" } else { "Application" },
            permissions(config, identity.grant.actor()).join(" and ")
        ),
    );
    if is_of_a_person {
        platform(text, step, identity);
    }
    prove(text, step, identity);
    step.write(
        text,
        &format!(
            "There, as an administrator: API permissions, Grant admin consent. Or by this address, where http://localhost is \
             registered as a redirect address (it leads to a page that does not open, which does not matter): {}",
            consent(identity)
        ),
    );
    if matches!(identity.grant, Grant::DeviceCode(_)) {
        step.write(
            text,
            "Conditional Access: exclude the application or the account from \"Block device code flow\", which Microsoft \
             switches on by itself; or use grant = \"authorization-code\".",
        );
    }
}

/// The platform: where the browser comes back to, and whether the application can keep a secret.
fn platform(text: &mut String, step: &mut Steps, identity: &Identity) {
    let has_secret = matches!(
        &identity.grant,
        Grant::AuthorizationCode(Some(_)) | Grant::DeviceCode(Some(_)) | Grant::Password(Some(_))
    );
    let words = if has_secret {
        "There: Authentication, Add a platform, Web, http://localhost. (With a client secret the application is no public \
         client; without one, which is simpler, it would be Mobile and desktop applications.)"
    } else {
        "There: Authentication, Add a platform, Mobile and desktop applications, http://localhost; and switch \"Allow public \
         client flows\" on."
    };
    step.write(text, words);
}

fn prove(text: &mut String, step: &mut Steps, identity: &Identity) {
    match &identity.grant {
        Grant::ClientCredentials(Credential::Certificate(files)) => {
            let (chain, key) = (files.chain.display(), files.key.display());
            match certificate::describe(&files.chain) {
                Ok(one) => step.write(
                    text,
                    &format!(
                        "There: Certificates & secrets, Certificates, Upload certificate: {chain} (SHA-256 {}, until {}). Only the \
                         certificate, never {key}.",
                        one.sha256, one.not_after
                    ),
                ),
                Err(_) => step.write(
                    text,
                    &format!(
                        "Make a certificate for two years, and upload {chain} under Certificates & secrets, Certificates; {key} never \
                         leaves this computer:\n\n    openssl req -x509 -newkey rsa:3072 -nodes -days 730 -subj /CN=packetboat \\\n      \
                         -keyout {key} -out {chain}\n    chmod 600 {key}\n"
                    ),
                ),
            }
        }
        Grant::ClientCredentials(Credential::Secret(file)) => step.write(
            text,
            &format!(
                "There: Certificates & secrets, New client secret. Put its value (not its id) into {}, readable by packetboat \
                 alone (chmod 600), and its last day into client_secret_expires. A certificate is better.",
                file.path.display()
            ),
        ),
        Grant::Federated(file) => step.write(
            text,
            &format!(
                "There: Certificates & secrets, Federated credentials: issuer and subject of the token in {}, audience {}.",
                file.display(),
                audience(identity.cloud)
            ),
        ),
        Grant::AuthorizationCode(_) | Grant::DeviceCode(_) | Grant::Password(_) | Grant::ManagedIdentity => {}
    }
}

fn powershell(text: &mut String, identity: &Identity, accounts: &[&Account], config: &Config) {
    let is_of_a_person = identity.grant.is_of_a_person();
    let mut line = |line: &str| {
        let _ = writeln!(text, "    {line}");
    };
    line("Install-Module ExchangeOnlineManagement -Scope CurrentUser");
    line(&format!("Connect-ExchangeOnline{}", environments(identity.cloud).0));
    if !is_of_a_person {
        line(
            "# From the portal: Enterprise applications, the application, Overview, Object ID. The app registration has",
        );
        line("# another Object ID, which does not work, and nothing tells so.");
        line("$object = 'OBJECT ID OF THE ENTERPRISE APPLICATION'");
        let id = if identity.client_id.is_empty() { "APPLICATION ID" } else { identity.client_id.as_str() };
        line(&format!("New-ServicePrincipal -AppId {} -ObjectId $object -DisplayName packetboat", quote(id)));
    }
    for account in accounts {
        let mailbox = quote(&account.mailbox);
        let user = if is_of_a_person { quote(&account.user) } else { "$object".to_owned() };
        if !is_of_a_person || !account.user.eq_ignore_ascii_case(&account.mailbox) {
            line(&format!(
                "Add-MailboxPermission -Identity {mailbox} -User {user} -AccessRights FullAccess -AutoMapping $false"
            ));
        }
        let switches: String = Protocol::ALL
            .into_iter()
            .filter(|protocol| offers(config, *protocol))
            .map(|protocol| format!(" -{} $true", protocol.mailbox_switch()))
            .collect();
        line(&format!("Set-CASMailbox -Identity {mailbox}{switches}"));
    }
    text.push('\n');
}

/// A managed identity has no app registration: its permissions are given by Microsoft Graph.
fn assign_roles(text: &mut String, identity: &Identity, config: &Config) {
    let mut line = |line: &str| {
        let _ = writeln!(text, "    {line}");
    };
    line("Install-Module Microsoft.Graph.Applications -Scope CurrentUser");
    line(&format!(
        "Connect-MgGraph -Scopes Application.Read.All, AppRoleAssignment.ReadWrite.All{}",
        environments(identity.cloud).1
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
        "console.cloud.google.com: a project, APIs & Services, OAuth consent screen: Internal, scope https://mail.google.com/.",
    );
    step.write(
        text,
        "There: Credentials, Create credentials, OAuth client ID, Desktop app; its id into client_id, its secret into \
         client_secret_file.",
    );
    for account in accounts {
        step.write(text, &format!("In the settings of {}: Forwarding and POP/IMAP, switch both on.", account.mailbox));
    }
    log_in(text, &mut step, config, name);
}

/// The steps at an issuer that is neither Microsoft nor Google.
fn elsewhere(text: &mut String, config: &Config, (name, identity): (&str, &Identity), accounts: &[&Account]) {
    let mut step = Steps::default();
    let endpoint = &identity.token_endpoint;
    step.write(text, &format!("At {endpoint}: register a client with the id {}.", identity.client_id));
    for account in accounts {
        let servers = config.servers_of(account).join(" and ");
        step.write(text, &format!("At {servers}: take its tokens for {}, by XOAUTH2.", account.mailbox));
    }
    log_in(text, &mut step, config, name);
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

/// The permissions that the application needs. The scopes that a person is asked for name every protocol.
fn permissions(config: &Config, actor: Actor) -> Vec<&'static str> {
    let is_needed = |protocol: &Protocol| actor == Actor::Person || offers(config, *protocol);
    Protocol::ALL.into_iter().filter(is_needed).map(|protocol| protocol.permission(actor)).collect()
}

fn offers(config: &Config, protocol: Protocol) -> bool {
    config.listeners.iter().any(|listener| listener.protocol == protocol)
}

fn portal(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Worldwide => "https://entra.microsoft.com",
        Cloud::GccHigh | Cloud::Dod => "https://entra.microsoft.us",
        Cloud::China => "https://entra.microsoftonline.cn",
        Cloud::Google => "https://console.cloud.google.com",
    }
}

/// Arguments for Connect-ExchangeOnline and for Connect-MgGraph.
fn environments(cloud: Cloud) -> (&'static str, &'static str) {
    match cloud {
        Cloud::Worldwide | Cloud::Google => ("", ""),
        Cloud::GccHigh => (" -ExchangeEnvironmentName O365USGovGCCHigh", " -Environment USGov"),
        Cloud::Dod => (" -ExchangeEnvironmentName O365USGovDoD", " -Environment USGovDoD"),
        Cloud::China => (" -ExchangeEnvironmentName O365China", " -Environment China"),
    }
}

/// The audience that a federated token must have.
fn audience(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Worldwide | Cloud::Google => "api://AzureADTokenExchange",
        Cloud::GccHigh | Cloud::Dod => "api://AzureADTokenExchangeUSGov",
        Cloud::China => "api://AzureADTokenExchangeChina",
    }
}

fn cloud_name(cloud: Cloud) -> &'static str {
    Cloud::ALL.into_iter().find(|(_, one)| *one == cloud).map_or("", |(name, _)| name)
}

/// A text in quotation marks, which PowerShell takes literally.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

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
