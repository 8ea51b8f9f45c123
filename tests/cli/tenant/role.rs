//! RBAC for Applications, behind the commands of ExchangeOnlineManagement: management scopes, and roles for them.

use super::super::interpreter::{Arguments, Value};
use super::{Assignment, Tenant, named};

impl Tenant {
    /// Plays a command; `None` for one that is not about roles.
    pub(super) fn role<'t>(&mut self, name: &str, arguments: &Arguments<'t>) -> Result<Option<Vec<Value<'t>>>, String> {
        let get = |name: &str| named(arguments, name);
        let mut shown = Vec::new();
        match name {
            "Get-ManagementScope" => {
                assert!(arguments.named.keys().all(|one| one == "ErrorAction"), "it returns all if it knows none");
                shown.extend(self.scopes.iter().map(|(name, filter)| {
                    Value::object(&[("Name", Value::text(name)), ("RecipientFilter", Value::text(filter))])
                }));
            }
            "New-ManagementScope" => {
                let (scope, filter) = (get("Name"), get("RecipientRestrictionFilter"));
                if scope.chars().count() > 64 || self.scopes.iter().any(|(known, _)| *known == scope) {
                    return Err(format!("the scope {scope} exists, or its name is too long"));
                }
                self.change(format!("{name} {scope}"), arguments);
                self.scopes.push((scope, filter));
                shown.push(Value::text("something that must not get into a result"));
            }
            "Remove-ManagementScope" => {
                let scope = get("Identity");
                if self.assignments.iter().any(|one| one.scope == scope) {
                    return Err(format!("the scope {scope} is in use"));
                }
                self.change(format!("{name} {scope}"), arguments);
                self.scopes.retain(|(known, _)| *known != scope);
            }
            "Get-ManagementRoleAssignment" => {
                let (role, holder) = (get("Role"), get("RoleAssignee"));
                let is_asked = |one: &&Assignment| {
                    (role.is_empty() || one.role == role) && (holder.is_empty() || one.holder == holder)
                };
                shown.extend(self.assignments.iter().filter(is_asked).map(|one| {
                    Value::object(&[
                        ("Identity", Value::text(&one.id)),
                        ("Role", Value::text(&one.role)),
                        ("CustomResourceScope", Value::text(&one.scope)),
                    ])
                }));
            }
            "New-ManagementRoleAssignment" => {
                let (role, holder, scope) = (get("Role"), get("App"), get("CustomResourceScope"));
                let is_known = self.principals.iter().any(|(_, object)| *object == holder);
                if !is_known || !self.scopes.iter().any(|(known, _)| *known == scope) {
                    return Err(format!("{holder} or {scope} was not found"));
                }
                self.change(format!("{name} {scope}"), arguments);
                let id = self.new_id();
                self.assignments.push(Assignment { id, role, holder, scope });
                shown.push(Value::text("something that must not get into a result"));
            }
            "Remove-ManagementRoleAssignment" => {
                let id = get("Identity");
                self.change(name.to_owned(), arguments);
                self.assignments.retain(|one| one.id != id);
            }
            _ => return Ok(None),
        }
        Ok(Some(shown))
    }
}
