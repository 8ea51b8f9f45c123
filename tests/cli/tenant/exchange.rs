//! Exchange, behind the commands of ExchangeOnlineManagement: service principals, rights, protocols.

use super::super::interpreter::{Arguments, Value};
use super::{Tenant, named};

impl Tenant {
    pub(super) fn exchange<'t>(&mut self, name: &str, arguments: &Arguments<'t>) -> Result<Vec<Value<'t>>, String> {
        let get = |name: &str| named(arguments, name);
        if name == "Connect-ExchangeOnline" {
            assert!(!self.has_graph, "the two modules in one process");
            self.has_exchange = true;
            self.sign_ins.push(format!("exchange {} {}", get("ExchangeEnvironmentName"), get("UserPrincipalName")));
            return Ok(Vec::new());
        }
        assert!(self.has_exchange, "{name} without a sign-in");
        if let Some(shown) = self.role(name, arguments)? {
            return Ok(shown);
        }
        match name {
            "Get-ServicePrincipal" => {
                assert!(arguments.named.keys().all(|one| one == "ErrorAction"), "it returns all if it knows none");
                let shown = self.principals.iter().map(|(id, object)| {
                    Value::object(&[("AppId", Value::text(id)), ("ObjectId", Value::text(object))])
                });
                return Ok(shown.collect());
            }
            "New-ServicePrincipal" => {
                self.wait()?;
                if self.principals.iter().any(|(id, _)| *id == get("AppId")) {
                    return Err("the service principal exists".to_owned());
                }
                self.change("make the service principal".to_owned(), arguments);
                self.principals.push((get("AppId"), get("ObjectId")));
                return Ok(vec![Value::text("something that must not get into a result")]);
            }
            "Remove-ServicePrincipal" => {
                self.change("remove the service principal".to_owned(), arguments);
                self.principals.retain(|(_, object)| *object != get("Identity"));
                return Ok(Vec::new());
            }
            _ => {}
        }
        let address = get("Identity");
        let is_known = self.principals.iter().any(|(_, object)| *object == get("User"));
        if !self.mailboxes.contains_key(&address) {
            return Err(format!("{address} was not found"));
        }
        if arguments.named.contains_key("User") && !is_known {
            return Err(format!("the user {} was not found", get("User")));
        }
        if !name.starts_with("Get-") {
            self.change(format!("{name} {address}"), arguments);
        }
        let mailbox = self.mailboxes.get_mut(&address).unwrap();
        match name {
            "Get-CASMailbox" => {
                let (imap, pop) = (Value::Bool(mailbox.imap), Value::Bool(mailbox.pop));
                let off = mailbox.smtp.map_or_else(|| Value::text(""), |is_on| Value::Bool(!is_on));
                let smtp = ("SmtpClientAuthenticationDisabled", off);
                return Ok(vec![Value::object(&[("ImapEnabled", imap), ("PopEnabled", pop), smtp])]);
            }
            "Set-CASMailbox" => {
                mailbox.imap |= get("ImapEnabled") == "True";
                mailbox.pop |= get("PopEnabled") == "True";
                if arguments.named.contains_key("SmtpClientAuthenticationDisabled") {
                    mailbox.smtp = Some(get("SmtpClientAuthenticationDisabled") == "False");
                }
            }
            "Get-MailboxPermission" => {
                let rights = Value::Array(vec![Value::text("FullAccess"), Value::text("ReadPermission")]);
                let one = Value::object(&[("AccessRights", rights), ("Deny", Value::Bool(false))]);
                return Ok(mailbox.full_access.contains(&get("User")).then_some(one).into_iter().collect());
            }
            "Add-MailboxPermission" => {
                assert_eq!((get("AccessRights"), get("AutoMapping")), ("FullAccess".to_owned(), "False".to_owned()));
                mailbox.full_access.insert(get("User"));
            }
            "Remove-MailboxPermission" => {
                mailbox.full_access.remove(&get("User"));
            }
            other => panic!("{other}"),
        }
        Ok(Vec::new())
    }
}
