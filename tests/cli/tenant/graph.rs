//! Entra, behind the commands of Microsoft.Graph: applications, enterprise applications, consents.

use std::collections::BTreeMap;

use super::super::interpreter::{Arguments, Value};
use super::{Application, Tenant, named};

impl Tenant {
    pub(super) fn graph<'t>(&mut self, name: &str, arguments: &Arguments<'t>) -> Result<Vec<Value<'t>>, String> {
        let get = |name: &str| named(arguments, name);
        match name {
            "Connect-MgGraph" => {
                assert!(!self.has_exchange, "the two modules in one process");
                self.has_graph = true;
                self.sign_ins.push(format!("graph {} {}", get("TenantId"), get("Environment")));
                return Ok(Vec::new());
            }
            "Disconnect-MgGraph" => self.has_graph = false,
            _ => assert!(self.has_graph, "{name} without a sign-in"),
        }
        match name {
            "Disconnect-MgGraph" => {}
            "Get-MgContext" => return Ok(vec![Value::object(&[("Account", Value::text("admin@contoso.example"))])]),
            "Get-MgApplication" => {
                let with_keys = get("Property") == "keyCredentials";
                let wanted = |one: &&Application| match filter(arguments) {
                    Some((property, value)) if property == "appId" => one.client_id == value,
                    Some((property, value)) if property == "displayName" => one.name == value,
                    _ => one.id == get("ApplicationId"),
                };
                let found = self.applications.iter().filter(wanted);
                return Ok(found.map(|one| show_application(one, with_keys)).collect());
            }
            "New-MgApplication" => {
                let tags = arguments.named["Tags"].clone().unrolled();
                let made = Application {
                    id: self.new_id(),
                    client_id: self.new_id(),
                    name: get("DisplayName"),
                    tags: tags.iter().map(Value::show).collect(),
                    certificates: certificates(arguments).unwrap(),
                    permissions: permissions(arguments).unwrap(),
                };
                assert_eq!(get("SignInAudience"), "AzureADMyOrg");
                self.change(format!("register {}", made.name), arguments);
                self.applications.push(made.clone());
                return Ok(vec![show_application(&made, false)]);
            }
            "Update-MgApplication" => {
                self.change(format!("update {}", get("ApplicationId")), arguments);
                let one = self.application(&get("ApplicationId"))?;
                // An update replaces the list.
                one.certificates = certificates(arguments).unwrap_or(std::mem::take(&mut one.certificates));
                one.permissions = permissions(arguments).unwrap_or(std::mem::take(&mut one.permissions));
                return Ok(vec![Value::text("something that must not get into a result")]);
            }
            "Remove-MgApplication" => {
                self.change(format!("remove {}", get("ApplicationId")), arguments);
                let client_id = self.application(&get("ApplicationId"))?.client_id.clone();
                self.applications.retain(|one| one.client_id != client_id);
                self.enterprises.retain(|(_, id)| *id != client_id);
            }
            "Get-MgServicePrincipal" => {
                let (_, wanted) = filter(arguments).unwrap();
                let role = |name: &str| {
                    let members = Value::Array(vec![Value::text("Application")]);
                    let (id, value) = (Value::text(name), Value::text(name));
                    Value::object(&[("Id", id), ("Value", value), ("AllowedMemberTypes", members)])
                };
                let roles = ["Mail.Read", "IMAP.AccessAsApp", "POP.AccessAsApp"].map(role).to_vec();
                let found = self.enterprises.iter().filter(|(_, id)| *id == wanted);
                let shown = found.map(|(object, id)| {
                    Value::object(&[
                        ("Id", Value::text(object)),
                        ("AppId", Value::text(id)),
                        ("DisplayName", Value::text("packetboat")),
                        ("AppRoles", Value::Array(roles.clone())),
                    ])
                });
                return Ok(shown.collect());
            }
            "New-MgServicePrincipal" => {
                self.wait()?;
                self.change("make the enterprise application".to_owned(), arguments);
                let object = self.new_id();
                self.enterprises.push((object.clone(), get("AppId")));
                return Ok(vec![Value::object(&[("Id", Value::text(&object)), ("AppId", Value::text(&get("AppId")))])]);
            }
            "Get-MgServicePrincipalAppRoleAssignment" => {
                let of = get("ServicePrincipalId");
                let found = self.consents.iter().filter(|(_, object, _)| *object == of);
                let shown = found.map(|(id, _, role)| {
                    let (id, role) = (Value::text(id), Value::text(role));
                    Value::object(&[("Id", id), ("AppRoleId", role), ("ResourceId", Value::text("exchange-object"))])
                });
                return Ok(shown.collect());
            }
            "New-MgServicePrincipalAppRoleAssignment" => {
                assert_eq!(get("PrincipalId"), get("ServicePrincipalId"));
                assert_eq!(get("ResourceId"), "exchange-object");
                self.change(format!("consent to {}", get("AppRoleId")), arguments);
                let id = self.new_id();
                self.consents.push((id, get("ServicePrincipalId"), get("AppRoleId")));
                return Ok(vec![Value::text("something that must not get into a result")]);
            }
            "Remove-MgServicePrincipalAppRoleAssignment" => {
                self.change("withdraw".to_owned(), arguments);
                self.consents.retain(|(id, _, _)| *id != get("AppRoleAssignmentId"));
            }
            other => panic!("{other}"),
        }
        Ok(Vec::new())
    }

    fn application(&mut self, id: &str) -> Result<&mut Application, String> {
        self.applications.iter_mut().find(|one| one.id == id).ok_or_else(|| format!("no application {id}"))
    }
}

/// `appId eq 'x'` or `displayName eq 'x'`.
fn filter(arguments: &Arguments<'_>) -> Option<(String, String)> {
    let text = named(arguments, "Filter");
    let (property, value) = text.split_once(" eq ")?;
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap();
    Some((property.to_owned(), value.replace("''", "'")))
}

fn show_application<'t>(one: &Application, with_keys: bool) -> Value<'t> {
    let certificate = |(content, name): &(Vec<u8>, String)| {
        // Graph returns the content for one application only, and only if it is named.
        let key = if with_keys { Value::Octets(content.clone()) } else { Value::Null };
        Value::object(&[("Key", key), ("DisplayName", Value::text(name))])
    };
    let mut resources: BTreeMap<&String, Vec<Value<'t>>> = BTreeMap::new();
    for (resource, role) in &one.permissions {
        let access = Value::object(&[("Id", Value::text(role)), ("Type", Value::text("Role"))]);
        resources.entry(resource).or_default().push(access);
    }
    let access = resources.into_iter().map(|(resource, access)| {
        Value::object(&[("ResourceAppId", Value::text(resource)), ("ResourceAccess", Value::Array(access))])
    });
    Value::object(&[
        ("Id", Value::text(&one.id)),
        ("AppId", Value::text(&one.client_id)),
        ("DisplayName", Value::text(&one.name)),
        ("Tags", Value::Array(one.tags.iter().map(|tag| Value::text(tag)).collect())),
        ("KeyCredentials", Value::Array(one.certificates.iter().map(certificate).collect())),
        ("RequiredResourceAccess", Value::Array(access.collect())),
    ])
}

fn certificates(arguments: &Arguments<'_>) -> Option<Vec<(Vec<u8>, String)>> {
    let read = |one: &Value<'_>| match one.member("Key") {
        Value::Octets(octets) => (octets, one.member("DisplayName").show()),
        _ => panic!("a certificate without its content"),
    };
    arguments.named.get("KeyCredentials").map(|list| list.clone().unrolled().iter().map(read).collect())
}

fn permissions(arguments: &Arguments<'_>) -> Option<Vec<(String, String)>> {
    let list = arguments.named.get("RequiredResourceAccess")?.clone().unrolled();
    let of = |one: &Value<'_>| {
        let resource = one.member("ResourceAppId").show();
        let roles = one.member("ResourceAccess").unrolled();
        roles.iter().map(|role| (resource.clone(), role.member("Id").show())).collect::<Vec<_>>()
    };
    Some(list.iter().flat_map(of).collect())
}
