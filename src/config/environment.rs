//! Environment variables override keys of the file: the few that a container needs.

/// Variables of the environment that override keys of the file. Empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment(pub Vec<(&'static str, String)>);

impl Environment {
    /// The variables that are known, for the handful of keys that a container needs.
    pub const VARIABLES: [&'static str; 6] = [
        "PACKETBOAT_STATE_DIRECTORY",
        "PACKETBOAT_LOG_FORMAT",
        "PACKETBOAT_LOG_LEVEL",
        "PACKETBOAT_ADMIN_LISTEN",
        "PACKETBOAT_ADMIN_TOKEN_FILE",
        "PACKETBOAT_ADMIN_TECHNICIAN_TOKEN_FILE",
    ];

    /// The variables of this process.
    pub fn of_process() -> Self {
        let read = |name: &'static str| Some((name, std::env::var(name).ok()?)).filter(|(_, value)| !value.is_empty());
        Self(Self::VARIABLES.into_iter().filter_map(read).collect())
    }

    /// Variables that look like ours and are none.
    pub fn unknown() -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let is_known = |name: &str| name == "PACKETBOAT_CONFIG" || Self::VARIABLES.contains(&name);
        // Kubernetes tells every container where a service of that name is.
        let is_of_kubernetes =
            |name: &str| ["PACKETBOAT_SERVICE_", "PACKETBOAT_PORT"].iter().any(|one| name.starts_with(one));
        let is_ours = |name: &str| name.starts_with("PACKETBOAT_") && !is_of_kubernetes(name);
        names.filter(|name| is_ours(name) && !is_known(name)).collect()
    }
}
