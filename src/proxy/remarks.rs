//! Remarks on a configuration: what does not keep the proxy from starting, but an operator should know.

use crate::config::{Config, Roots};
use crate::diagnostic::Diagnostic;
use crate::token;
use crate::transport::downstream::certificate;
use crate::transport::{http, upstream};

/// Remarks on certificates, roots and tokens of a configuration that can run.
pub fn remarks(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, certificate) in &config.certificates {
        let remarks = certificate::remarks(certificate, &config.state_directory, name);
        found.extend(remarks.into_iter().map(|one| one.below(format_args!("certificate.{name}"))));
    }
    found.extend(remarks_on_roots(config));
    found.extend(token::remarks(config));
    found
}

fn remarks_on_roots(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut add = |key: String, roots: &Roots, hosts: &[String]| {
        let remarks = upstream::remarks(roots, hosts);
        found.extend(remarks.into_iter().map(|message| Diagnostic::new(&key, message)));
    };
    for (name, one) in &config.upstreams {
        let hosts: Vec<String> = one.verified_names().map(str::to_owned).collect();
        add(format!("upstream.{name}.roots"), &one.roots, &hosts);
    }
    for (name, one) in &config.identities {
        let hosts = [&one.token_endpoint, &one.device_endpoint].into_iter().filter_map(|url| http::host_of(url));
        add(format!("identity.{name}.roots"), &one.roots, &hosts.collect::<Vec<_>>());
    }
    found
}
