//! The identity providers that packetboat knows, with their hosts, scopes and mail servers.

use std::time::Duration;

use super::{Endpoint, Roots, Upstream, url};
use crate::protocol::{Actor, ByProtocol, Protocol};

/// An identity provider: one of Microsoft's clouds, or Google.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Microsoft's, for everybody.
    Worldwide,
    /// Microsoft's for the US government, GCC High.
    GccHigh,
    /// Microsoft's for the US Department of Defense.
    Dod,
    /// Microsoft's in China, run by 21Vianet.
    China,
    /// Google.
    Google,
}

impl Cloud {
    /// The clouds by their names in the file.
    pub const ALL: [(&'static str, Cloud); 5] = [
        ("worldwide", Cloud::Worldwide),
        ("gcc-high", Cloud::GccHigh),
        ("dod", Cloud::Dod),
        ("china", Cloud::China),
        ("google", Cloud::Google),
    ];

    /// Returns whether the cloud is one of Microsoft's.
    pub fn is_microsoft(self) -> bool {
        self != Cloud::Google
    }

    /// The URL of the cloud's authority.
    pub fn authority(self) -> &'static str {
        match self {
            Cloud::Worldwide => "https://login.microsoftonline.com",
            Cloud::GccHigh | Cloud::Dod => "https://login.microsoftonline.us",
            Cloud::China => "https://login.partner.microsoftonline.cn",
            Cloud::Google => "https://oauth2.googleapis.com",
        }
    }

    /// The hosts that give out the cloud's tokens.
    pub fn token_hosts(self) -> &'static [&'static str] {
        match self {
            Cloud::Worldwide => {
                &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net"]
            }
            Cloud::GccHigh | Cloud::Dod => &["login.microsoftonline.us"],
            Cloud::China => &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
            Cloud::Google => &["oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"],
        }
    }

    /// The hosts of the cloud's mail servers: its tokens may go there without a key that says so.
    pub fn mail_hosts(self) -> &'static [&'static str] {
        match self {
            Cloud::Worldwide => &[
                "outlook.office365.com",
                "outlook.office.com",
                "imap-legacy.office365.com",
                "pop-legacy.office365.com",
                "smtp.office365.com",
                "smtp-legacy.office365.com",
            ],
            Cloud::GccHigh => &["outlook.office365.us", "smtp.office365.us"],
            Cloud::Dod => &["outlook-dod.office365.us", "webmail.apps.mil"],
            Cloud::China => &[
                "partner.outlook.cn",
                "imap-legacy.partner.outlook.cn",
                "pop-legacy.partner.outlook.cn",
                "smtp.partner.outlook.cn",
                "smtp-legacy.partner.outlook.cn",
            ],
            Cloud::Google => &["imap.gmail.com", "pop.gmail.com", "smtp.gmail.com"],
        }
    }

    /// Returns whether a mail server is the cloud's own, for every protocol and by the name that is verified.
    pub fn runs(self, upstream: &Upstream) -> bool {
        self.foreign_name(upstream).is_none()
    }

    /// The first host or verified name of an upstream that is not one of this cloud's mail servers.
    pub(super) fn foreign_name(self, upstream: &Upstream) -> Option<&str> {
        let names = upstream.each_endpoint().flat_map(|(_, one)| [one.host.as_str(), one.verified_name()]);
        names.into_iter().find(|name| !url::is_one_of(name, self.mail_hosts()))
    }

    /// The scope of an application that acts as itself.
    pub fn application_scope(self) -> String {
        format!("{}/.default", self.resource())
    }

    /// The resource that an application's token is for.
    pub fn resource(self) -> &'static str {
        match self {
            Cloud::Worldwide => "https://outlook.office365.com",
            // Microsoft documents the hosts, not the scopes, for these: they can be overridden.
            Cloud::GccHigh => "https://outlook.office365.us",
            Cloud::Dod => "https://outlook-dod.office365.us",
            Cloud::China => "https://partner.outlook.cn",
            Cloud::Google => "https://mail.google.com",
        }
    }

    /// The resource of a token that is the password of an Azure Database for PostgreSQL; none without such databases.
    pub fn database_resource(self) -> Option<&'static str> {
        match self {
            Cloud::Worldwide => Some("https://ossrdbms-aad.database.windows.net"),
            Cloud::GccHigh | Cloud::Dod => Some("https://ossrdbms-aad.database.usgovcloudapi.net"),
            Cloud::China => Some("https://ossrdbms-aad.database.chinacloudapi.cn"),
            Cloud::Google => None,
        }
    }

    /// The scopes of an application that acts for a person, by these protocols. Those that read a mailbox are always
    /// among them.
    pub fn delegated_scope(self, protocols: &[Protocol]) -> String {
        let resource = match self {
            Cloud::Worldwide => "https://outlook.office.com",
            // Google has one scope for all of mail, and gives a refresh token unasked to devices.
            Cloud::Google => return "https://mail.google.com/".to_owned(),
            Cloud::GccHigh | Cloud::Dod | Cloud::China => self.resource(),
        };
        let is_wanted = |protocol: &Protocol| Protocol::MAILBOX.contains(protocol) || protocols.contains(protocol);
        let wanted = Protocol::ALL.into_iter().filter(is_wanted);
        let scopes: Vec<String> =
            wanted.map(|protocol| format!("{resource}/{}", protocol.permission(Actor::Person))).collect();
        format!("{} offline_access", scopes.join(" "))
    }

    /// The cloud's mail server, and the name that stands for it in the file.
    pub fn upstream(self) -> (&'static str, Upstream) {
        let name = match self {
            Cloud::Worldwide => "exchange",
            Cloud::GccHigh => "gcc-high",
            Cloud::Dod => "dod",
            Cloud::China => "china",
            Cloud::Google => "google",
        };
        let endpoints = ByProtocol::new(|protocol| Some(self.endpoint(protocol)));
        let upstream = Upstream {
            endpoints,
            roots: Roots::Bundled,
            warm_connections: 0,
            warm_time: Upstream::WARM_TIME,
            park: Duration::ZERO,
            park_age: Upstream::PARK_AGE,
        };
        (name, upstream)
    }

    /// The endpoint of one protocol at the cloud's mail server.
    fn endpoint(self, protocol: Protocol) -> Endpoint {
        let security = protocol.usual_security();
        let host = (*self.mail_servers().of(protocol)).to_owned();
        Endpoint { host, port: protocol.port(security), security, server_name: None }
    }

    /// The endpoint of one protocol at the cloud whose mail server this host is; none where it is no cloud's.
    pub(super) fn endpoint_beside(host: &str, protocol: Protocol) -> Option<Endpoint> {
        let (_, cloud) = Self::ALL.into_iter().find(|(_, cloud)| url::is_one_of(host, cloud.mail_hosts()))?;
        Some(cloud.endpoint(protocol))
    }

    /// Host of each protocol. One row is one cloud.
    fn mail_servers(self) -> ByProtocol<&'static str> {
        let one = |host, smtp| ByProtocol { imap: host, pop3: host, smtp };
        match self {
            Cloud::Worldwide => one("outlook.office365.com", "smtp.office365.com"),
            Cloud::GccHigh => one("outlook.office365.us", "smtp.office365.us"),
            Cloud::Dod => one("outlook-dod.office365.us", "outlook-dod.office365.us"),
            Cloud::China => one("partner.outlook.cn", "smtp.partner.outlook.cn"),
            Cloud::Google => ByProtocol { imap: "imap.gmail.com", pop3: "pop.gmail.com", smtp: "smtp.gmail.com" },
        }
    }

    /// The endpoints of OAuth: token, authorization and device.
    pub fn oauth_endpoints(self, authority: &str, tenant: &str) -> [String; 3] {
        match self {
            Cloud::Worldwide | Cloud::GccHigh | Cloud::Dod | Cloud::China => ["token", "authorize", "devicecode"]
                .map(|endpoint| format!("{authority}/{tenant}/oauth2/v2.0/{endpoint}")),
            Cloud::Google => [
                format!("{authority}/token"),
                "https://accounts.google.com/o/oauth2/v2/auth".to_owned(),
                format!("{authority}/device/code"),
            ],
        }
    }
}
