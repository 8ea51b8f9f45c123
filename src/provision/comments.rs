//! Comments between sections: the one directly above a heading belongs to its section, and what an empty line sets apart
//! stays when the section goes.

use toml_edit::visit::{Visit, visit_table};
use toml_edit::visit_mut::{VisitMut, visit_table_mut};
use toml_edit::{DocumentMut, RawString, Table};

/// Puts a comment that stood above a removed section above the section that followed it.
pub(super) fn keep(toml: &mut DocumentMut, position: Option<isize>, comment: &str) {
    if comment.is_empty() {
        return;
    }
    let mut search = NextSection { after: position.unwrap_or(isize::MAX), next: None };
    search.visit_document(toml);
    match search.next {
        Some(position) => Prepend { position, comment }.visit_document_mut(toml),
        None => {
            let trailing = format!("{comment}{}", shown(Some(toml.trailing())));
            toml.set_trailing(trailing);
        }
    }
}

/// Takes away all comments but those directly above a heading or a key.
pub(super) fn keep_own(toml: &mut DocumentMut) {
    OwnComments.visit_document_mut(toml);
}

/// Finds the section with the smallest position behind another one.
struct NextSection {
    after: isize,
    next: Option<isize>,
}

impl<'doc> Visit<'doc> for NextSection {
    fn visit_table(&mut self, table: &'doc Table) {
        if let Some(position) = table.position().filter(|position| *position > self.after) {
            self.next = Some(self.next.map_or(position, |next| next.min(position)));
        }
        visit_table(self, table);
    }
}

/// Puts a comment in front of what stands above the section at a position.
struct Prepend<'a> {
    position: isize,
    comment: &'a str,
}

impl VisitMut for Prepend<'_> {
    fn visit_table_mut(&mut self, table: &mut Table) {
        if table.position() == Some(self.position) {
            let prefix = format!("{}{}", self.comment, shown(table.decor().prefix()));
            table.decor_mut().set_prefix(prefix);
        }
        visit_table_mut(self, table);
    }
}

/// Takes away what is set apart above each section.
struct OwnComments;

impl VisitMut for OwnComments {
    fn visit_table_mut(&mut self, table: &mut Table) {
        let prefix = shown(table.decor().prefix());
        let own = prefix.get(comment_apart(table).len()..).unwrap_or_default();
        let own = format!("\n{}", own.trim_start());
        table.decor_mut().set_prefix(own);
        for (mut key, _) in table.iter_mut() {
            let prefix = shown(key.leaf_decor().prefix()).to_owned();
            let own = prefix.rfind("\n\n").map_or(0, |at| at + 2);
            key.leaf_decor_mut().set_prefix(prefix.get(own..).unwrap_or_default());
        }
        visit_table_mut(self, table);
    }
}

/// The comment above a section that is set apart from its heading by an empty line, and so is not the section's own.
pub(super) fn comment_apart(table: &Table) -> String {
    let prefix = shown(table.decor().prefix());
    let own = prefix.rfind("\n\n").map_or(0, |at| at + 1);
    let apart = prefix.get(..own).unwrap_or_default();
    if apart.trim().is_empty() { String::new() } else { apart.to_owned() }
}

fn shown(raw: Option<&RawString>) -> &str {
    raw.and_then(RawString::as_str).unwrap_or_default()
}
