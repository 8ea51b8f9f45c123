//! A pretend tenant: Entra and Exchange behind the commands that packetboat.ps1 calls, with their documented oddities.

mod exchange;
mod graph;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use openssl::hash::{MessageDigest, hash};

use super::interpreter::{Arguments, Host, Interpreter, Value};
use super::powershell::Script;

/// The application id of Office 365 Exchange Online.
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";

#[derive(Default, Clone)]
pub(super) struct Application {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) tags: Vec<String>,
    /// Content and display name of each certificate.
    pub(super) certificates: Vec<(Vec<u8>, String)>,
    /// Resource and role of each permission in the registration.
    pub(super) permissions: Vec<(String, String)>,
}

#[derive(Default, Clone)]
pub(super) struct Mailbox {
    pub(super) full_access: BTreeSet<String>,
    pub(super) imap: bool,
    pub(super) pop: bool,
    /// SMTP AUTH; as long as it has no value, the organization's switch has it off.
    pub(super) smtp: Option<bool>,
}

/// A role of RBAC for Applications that a service principal has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) id: String,
    pub(super) role: String,
    /// The service principal's object id.
    pub(super) holder: String,
    pub(super) scope: String,
}

#[derive(Default, Clone)]
pub(super) struct Tenant {
    pub(super) modules: BTreeSet<&'static str>,
    pub(super) applications: Vec<Application>,
    /// Object id and application id of each enterprise application.
    pub(super) enterprises: Vec<(String, String)>,
    /// Id, object id and role of each consent.
    pub(super) consents: Vec<(String, String, String)>,
    /// Application id and object id of each service principal in Exchange.
    pub(super) principals: Vec<(String, String)>,
    pub(super) mailboxes: BTreeMap<String, Mailbox>,
    /// Name and filter of each management scope.
    pub(super) scopes: Vec<(String, String)>,
    pub(super) assignments: Vec<Assignment>,
    /// Calls that fail before a new object is known.
    pub(super) delay: usize,
    /// Each change, as command and target.
    pub(super) changes: Vec<String>,
    pub(super) printed: Vec<String>,
    pub(super) sign_ins: Vec<String>,
    pub(super) slept: usize,
    ids: u32,
    /// The services that this process is signed in to.
    has_graph: bool,
    has_exchange: bool,
}

impl Tenant {
    pub(super) fn new(mailboxes: &[&str]) -> Self {
        let mailboxes = mailboxes.iter().map(|name| ((*name).to_owned(), Mailbox::default()));
        Self {
            modules: ["Microsoft.Graph.Authentication", "Microsoft.Graph.Applications", "ExchangeOnlineManagement"]
                .into(),
            enterprises: vec![("exchange-object".to_owned(), EXCHANGE.to_owned())],
            mailboxes: mailboxes.collect(),
            ..Self::default()
        }
    }

    /// Runs the script as an administrator does. Returns the exit code and what was printed.
    pub(super) fn run(&mut self, script: &str, arguments: &[&str]) -> (i64, String) {
        self.printed.clear();
        self.changes.clear();
        (self.has_graph, self.has_exchange) = (false, false);
        let script = Script::parse(script);
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let (code, error) = Interpreter::run(&script, self, &arguments);
        self.printed.extend(error.map(|error| format!("ERROR {error}")));
        (code, self.printed.join("\n"))
    }

    /// Whether an application with this certificate may open a mailbox by a protocol.
    pub(super) fn opens(&self, certificate: &[u8], mailbox: &str, permission: &str) -> bool {
        let mailbox = &self.mailboxes[mailbox];
        let is_on = if permission.starts_with("IMAP") { mailbox.imap } else { mailbox.pop };
        self.applications.iter().any(|one| {
            let enterprise = self.enterprises.iter().find(|(_, id)| *id == one.client_id);
            one.certificates.iter().any(|(content, _)| content == certificate)
                && enterprise.is_some_and(|(object, id)| {
                    self.consents.iter().any(|(_, of, role)| of == object && role == permission)
                        && self.principals.contains(&(id.clone(), object.clone()))
                        && mailbox.full_access.contains(object)
                        && is_on
                })
        })
    }

    /// Whether an application with this certificate may send from a mailbox by a role. A permission in its token would
    /// have Exchange look for FullAccess instead.
    pub(super) fn sends(&self, certificate: &[u8], mailbox: &str) -> bool {
        let filter = format!("PrimarySmtpAddress -eq '{}'", mailbox.replace('\'', "''"));
        let scopes: Vec<&String> = self.scopes.iter().filter(|(_, one)| *one == filter).map(|(name, _)| name).collect();
        self.applications.iter().any(|one| {
            let enterprise = self.enterprises.iter().find(|(_, id)| *id == one.client_id);
            one.certificates.iter().any(|(content, _)| content == certificate)
                && enterprise.is_some_and(|(object, id)| {
                    self.principals.contains(&(id.clone(), object.clone()))
                        && !self.consents.iter().any(|(_, of, role)| of == object && role == "SMTP.SendAsApp")
                        && self.assignments.iter().any(|one| {
                            one.holder == *object
                                && one.role == "Application SMTP.SendAsApp"
                                && scopes.contains(&&one.scope)
                        })
                        && self.mailboxes[mailbox].smtp == Some(true)
                })
        })
    }

    pub(super) fn register(&mut self, name: &str, certificates: &[(&[u8], &str)]) -> Application {
        let certificates = certificates.iter().map(|(content, name)| (content.to_vec(), (*name).to_owned())).collect();
        let (id, client_id) = (self.new_id(), self.new_id());
        let made = Application { name: name.to_owned(), id, client_id, certificates, ..Application::default() };
        self.applications.push(made.clone());
        made
    }

    pub(super) fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-aaaa-4000-8000-{:012}", self.ids)
    }

    fn change(&mut self, what: String, arguments: &Arguments<'_>) {
        // Commands that remove something ask, unless they are told not to.
        let is_silent = arguments.named.get("Confirm").is_some_and(|value| !value.is_true());
        assert!(is_silent || !what.to_lowercase().starts_with("remove"), "{what} would ask");
        self.changes.push(what);
    }

    fn wait(&mut self) -> Result<(), String> {
        if self.delay == 0 {
            return Ok(());
        }
        self.delay -= 1;
        Err("the object is not known yet".to_owned())
    }
}

fn named(arguments: &Arguments<'_>, name: &str) -> String {
    arguments.named.get(name).map(Value::show).unwrap_or_default()
}

impl<'t> Host<'t> for Tenant {
    fn command(&mut self, name: &str, arguments: &Arguments<'t>) -> Result<Vec<Value<'t>>, String> {
        match name {
            "Out-Null" | "Install-Module" => Ok(Vec::new()),
            "Select-Object" => Ok(arguments.input.iter().take(1).cloned().collect()),
            "Write-Host" => {
                self.printed.push(arguments.values[0].show());
                Ok(Vec::new())
            }
            "Start-Sleep" => {
                self.slept += 1;
                Ok(Vec::new())
            }
            "Split-Path" => Ok(vec![Value::text(arguments.values[0].show().rsplit('/').next().unwrap())]),
            "Get-Module" => {
                let (name, is_loaded) = (named(arguments, "Name"), self.has_exchange);
                let is_there = match arguments.named.contains_key("ListAvailable") {
                    true => self.modules.contains(name.as_str()),
                    false => name == "ExchangeOnlineManagement" && is_loaded,
                };
                Ok(is_there.then(|| Value::object(&[("Name", Value::text(&name))])).into_iter().collect())
            }
            "New-Object" => {
                let Some(Value::Array(list)) = arguments.named.get("ArgumentList") else { panic!("{name}") };
                let [Value::Octets(der)] = &list[..] else { panic!("the certificate is not one argument") };
                if !der.starts_with(&[0x30]) {
                    return Err("this is no certificate".to_owned());
                }
                let sha1 = hash(MessageDigest::sha1(), der).unwrap();
                let thumbprint: String = sha1.iter().map(|octet| format!("{octet:02X}")).collect();
                Ok(vec![Value::object(&[
                    ("Thumbprint", Value::text(&thumbprint)),
                    ("RawData", Value::Octets(der.clone())),
                    ("NotBefore", Value::text("2026-11-27")),
                    ("NotAfter", Value::text("2028-11-26")),
                ])])
            }
            name if name.contains("Mg") => self.graph(name, arguments),
            name => self.exchange(name, arguments),
        }
    }

    fn process(&mut self, script: &'t Script, arguments: &[String]) -> i64 {
        let [profile, file, path, arguments @ ..] = arguments else { panic!("{arguments:?}") };
        assert_eq!([profile, file, path], ["-NoProfile", "-File", "/home/admin/packetboat.ps1"]);
        let outer = (self.has_graph, self.has_exchange);
        (self.has_graph, self.has_exchange) = (false, false);
        let (code, error) = Interpreter::run(script, self, arguments);
        self.printed.extend(error.map(|error| format!("ERROR {error}")));
        (self.has_graph, self.has_exchange) = outer;
        code
    }
}
