//! `packetboat setup`: what is to be done at Microsoft, or Google, for this very configuration.

use std::fmt::Write as _;

use super::{Exit, answer};
use crate::config::{Account, Cloud, Config, Credential, Grant, Identity, Protocol};
use crate::transport::downstream::certificate;
use crate::transport::http;

/// Prints the steps. Nothing is done, and nobody is asked.
pub(super) fn print(config: &Config) -> Result<(), Exit> {
    if config.identities.is_empty() {
        return answer(
            b"There is no [identity.NAME] in the configuration yet. Write one, with a made-up tenant and client_id if need be, and \
              an [account.NAME] for each mailbox; then this prints the steps for them. docs/entra.md shows how.\n",
        );
    }
    let mut text = String::new();
    for (name, identity) in &config.identities {
        let accounts: Vec<&Account> = config.accounts.values().filter(|account| account.identity == *name).collect();
        let _ = writeln!(text, "# Identity \"{name}\": {}, {}\n", identity.grant.name(), cloud_name(identity.cloud));
        if identity.cloud.is_microsoft() {
            microsoft(&mut text, config, identity, &accounts);
        } else {
            google(&mut text, identity, &accounts);
        }
        for login in logins(config, name) {
            let _ = writeln!(text, "    packetboat login {login}");
        }
        text.push('\n');
    }
    let _ = writeln!(text, "# Then\n\n    packetboat check --online\n");
    let _ = writeln!(text, "Permissions in Exchange take from minutes to an hour or two until they count.");
    answer(text.as_bytes())
}

fn microsoft(text: &mut String, config: &Config, identity: &Identity, accounts: &[&Account]) {
    let is_of_a_person = identity.grant.is_of_a_person();
    let permissions = permissions(config, is_of_a_person);
    let mut step = Steps::default();
    let (portal, id) = (portal(identity.cloud), identity.client_id.as_str());
    if identity.grant == Grant::ManagedIdentity {
        step.write(text, "Switch a managed identity on for this machine (portal: the machine, Security, Identity).");
        step.write(
            text,
            &format!("Give it the application permissions {permissions} of Office 365 Exchange Online (by Microsoft Graph PowerShell, New-MgServicePrincipalAppRoleAssignment)."),
        );
    } else {
        step.write(
            text,
            &format!(
                "{portal}: App registrations, the one with Application (client) ID {id} (or New registration, for this \
                 directory only; then put its id into client_id)."
            ),
        );
        let kind = if is_of_a_person { "Delegated" } else { "Application" };
        step.write(
            text,
            &format!(
                "There: API permissions, Add a permission, APIs my organization uses, \"Office 365 Exchange Online\", {kind} \
                 permissions: {permissions}. (Not those of Microsoft Graph.)"
            ),
        );
        step.write(text, &format!("An administrator consents, once: {}", consent(identity)));
    }
    prove(text, &mut step, identity);
    if is_of_a_person {
        step.write(
            text,
            "There: Authentication, Add a platform, Mobile and desktop applications, http://localhost; and switch \"Allow \
             public client flows\" on, unless a client secret is configured.",
        );
        if matches!(identity.grant, Grant::DeviceCode(_)) {
            step.write(
                text,
                "Conditional Access: exclude the application or the account from \"Block device code flow\", which Microsoft \
                 switches on by itself; or use grant = \"authorization-code\".",
            );
        }
    }
    step.write(text, "In PowerShell 7, as an Exchange administrator:\n");
    powershell(text, identity, accounts, config);
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
                "There: Certificates & secrets, Federated credentials: issuer and subject of the token in {}, audience \
                 api://AzureADTokenExchange.",
                file.display()
            ),
        ),
        Grant::AuthorizationCode(_) | Grant::DeviceCode(_) | Grant::Password(_) | Grant::ManagedIdentity => {}
    }
}

fn powershell(text: &mut String, identity: &Identity, accounts: &[&Account], config: &Config) {
    let (exchange, graph) = environments(identity.cloud);
    let id = identity.client_id.as_str();
    let _ =
        writeln!(text, "    Install-Module ExchangeOnlineManagement, Microsoft.Graph.Applications -Scope CurrentUser");
    let _ = writeln!(text, "    Connect-ExchangeOnline{exchange}");
    let is_of_a_person = identity.grant.is_of_a_person();
    if !is_of_a_person {
        let _ = writeln!(text, "    Connect-MgGraph -Scopes Application.Read.All{graph}");
        let _ = writeln!(
            text,
            "    # The enterprise application's object id: the app registration has another one, which does not work."
        );
        if id.is_empty() {
            let _ =
                writeln!(text, "    $app = Get-MgServicePrincipal -Filter \"DisplayName eq 'NAME OF THE MACHINE'\"");
        } else {
            let _ = writeln!(text, "    $app = Get-MgServicePrincipal -Filter \"AppId eq '{id}'\"");
        }
        let _ = writeln!(text, "    New-ServicePrincipal -AppId $app.AppId -ObjectId $app.Id -DisplayName packetboat");
    }
    let (imap, pop3) = (offers(config, Protocol::Imap), offers(config, Protocol::Pop3));
    for account in accounts {
        let mailbox = quote(&account.mailbox);
        if !is_of_a_person {
            let _ = writeln!(
                text,
                "    Add-MailboxPermission -Identity {mailbox} -User $app.Id -AccessRights FullAccess -AutoMapping $false"
            );
        } else if !account.user.eq_ignore_ascii_case(&account.mailbox) {
            let user = quote(&account.user);
            let _ = writeln!(
                text,
                "    Add-MailboxPermission -Identity {mailbox} -User {user} -AccessRights FullAccess -AutoMapping $false"
            );
        }
        let mut switches = String::new();
        if imap {
            switches += " -ImapEnabled $true";
        }
        if pop3 {
            switches += " -PopEnabled $true";
        }
        let _ = writeln!(text, "    Set-CASMailbox -Identity {mailbox}{switches}");
    }
    text.push('\n');
}

fn google(text: &mut String, identity: &Identity, accounts: &[&Account]) {
    let mut step = Steps::default();
    step.write(text, "console.cloud.google.com: a project, APIs & Services, OAuth consent screen: Internal, scope https://mail.google.com/.");
    let kind =
        if matches!(identity.grant, Grant::DeviceCode(_)) { "TVs and limited-input devices" } else { "Desktop app" };
    step.write(text, &format!("There: Credentials, Create credentials, OAuth client ID, {kind}; its id into client_id, its secret into client_secret_file."));
    for account in accounts {
        step.write(text, &format!("In the settings of {}: Forwarding and POP/IMAP, switch both on.", account.mailbox));
    }
}

/// For all that the application asks for.
fn consent(identity: &Identity) -> String {
    let base = format!("{}/{}", identity.authority, identity.tenant);
    if identity.grant.is_of_a_person() {
        let scope = identity.scope.replace(" offline_access", "");
        let query =
            [("client_id", identity.client_id.as_str()), ("scope", &scope), ("redirect_uri", "http://localhost")];
        format!("{base}/v2.0/adminconsent?{}", http::encode(&query).as_str())
    } else {
        format!("{base}/adminconsent?{}", http::encode(&[("client_id", identity.client_id.as_str())]).as_str())
    }
}

/// The accounts that somebody has to sign in for: each person once.
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

fn permissions(config: &Config, is_of_a_person: bool) -> String {
    let suffix = if is_of_a_person { "AccessAsUser.All" } else { "AccessAsApp" };
    let mut names = Vec::new();
    // The scopes that a person is asked for name both.
    if is_of_a_person || offers(config, Protocol::Imap) {
        names.push(format!("IMAP.{suffix}"));
    }
    if is_of_a_person || offers(config, Protocol::Pop3) {
        names.push(format!("POP.{suffix}"));
    }
    names.join(" and ")
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

/// For Connect-ExchangeOnline, and for Connect-MgGraph.
fn environments(cloud: Cloud) -> (&'static str, &'static str) {
    match cloud {
        Cloud::Worldwide | Cloud::Google => ("", ""),
        Cloud::GccHigh => (" -ExchangeEnvironmentName O365USGovGCCHigh", " -Environment USGov"),
        Cloud::Dod => (" -ExchangeEnvironmentName O365USGovDoD", " -Environment USGovDoD"),
        Cloud::China => (" -ExchangeEnvironmentName O365China", " -Environment China"),
    }
}

fn cloud_name(cloud: Cloud) -> &'static str {
    Cloud::ALL.into_iter().find(|(_, one)| *one == cloud).map_or("", |(name, _)| name)
}

/// As PowerShell takes it literally.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Counts.
#[derive(Default)]
struct Steps(u32);

impl Steps {
    fn write(&mut self, text: &mut String, step: &str) {
        self.0 += 1;
        let _ = writeln!(text, "{}. {step}", self.0);
    }
}
