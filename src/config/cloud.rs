//! The identity providers that packetboat knows, with their hosts, scopes and mail servers.

use super::{Roots, Upstream, url};
use crate::protocol::Security;

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
    /// All of them, by the names they are written with.
    pub const ALL: [(&'static str, Cloud); 5] = [
        ("worldwide", Cloud::Worldwide),
        ("gcc-high", Cloud::GccHigh),
        ("dod", Cloud::Dod),
        ("china", Cloud::China),
        ("google", Cloud::Google),
    ];

    /// Whether it is one of Microsoft's.
    pub fn is_microsoft(self) -> bool {
        self != Cloud::Google
    }

    /// Its authority.
    pub fn authority(self) -> &'static str {
        match self {
            Cloud::Worldwide => "https://login.microsoftonline.com",
            Cloud::GccHigh | Cloud::Dod => "https://login.microsoftonline.us",
            Cloud::China => "https://login.partner.microsoftonline.cn",
            Cloud::Google => "https://oauth2.googleapis.com",
        }
    }

    /// The hosts that give out its tokens.
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

    /// The hosts of its mail servers: its tokens may go to these unasked.
    pub fn mail_hosts(self) -> &'static [&'static str] {
        match self {
            Cloud::Worldwide => &[
                "outlook.office365.com",
                "outlook.office.com",
                "imap-legacy.office365.com",
                "pop-legacy.office365.com",
            ],
            Cloud::GccHigh => &["outlook.office365.us"],
            Cloud::Dod => &["outlook-dod.office365.us", "webmail.apps.mil"],
            Cloud::China => &["partner.outlook.cn", "imap-legacy.partner.outlook.cn", "pop-legacy.partner.outlook.cn"],
            Cloud::Google => &["imap.gmail.com", "pop.gmail.com"],
        }
    }

    /// Returns whether a mail server is the cloud's own, for every protocol and by the name that is verified.
    pub fn runs(self, upstream: &Upstream) -> bool {
        let mut names = [&upstream.host, &upstream.pop3_host].into_iter().chain(&upstream.server_name);
        names.all(|name| url::is_one_of(name, self.mail_hosts()))
    }

    /// What an application asks for, to act as itself.
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

    /// What is asked for in a person's name.
    pub fn delegated_scope(self) -> String {
        let resource = match self {
            Cloud::Worldwide => "https://outlook.office.com",
            // Google has one scope for all of mail, and gives a refresh token unasked to devices.
            Cloud::Google => return "https://mail.google.com/".to_owned(),
            Cloud::GccHigh | Cloud::Dod | Cloud::China => self.resource(),
        };
        format!("{resource}/IMAP.AccessAsUser.All {resource}/POP.AccessAsUser.All offline_access")
    }

    /// Its mail server, and the name that stands for it.
    pub fn upstream(self) -> (&'static str, Upstream) {
        let (name, host, pop3_host) = match self {
            Cloud::Worldwide => ("exchange", "outlook.office365.com", "outlook.office365.com"),
            Cloud::GccHigh => ("gcc-high", "outlook.office365.us", "outlook.office365.us"),
            Cloud::Dod => ("dod", "outlook-dod.office365.us", "outlook-dod.office365.us"),
            Cloud::China => ("china", "partner.outlook.cn", "partner.outlook.cn"),
            Cloud::Google => ("google", "imap.gmail.com", "pop.gmail.com"),
        };
        let upstream = Upstream {
            host: host.to_owned(),
            pop3_host: pop3_host.to_owned(),
            server_name: None,
            imap_port: 993,
            pop3_port: 995,
            security: Security::Implicit,
            roots: Roots::Bundled,
            warm_connections: 0,
            warm_time: Upstream::WARM_TIME,
        };
        (name, upstream)
    }

    /// Token, authorization and device endpoint.
    pub fn endpoints(self, authority: &str, tenant: &str) -> [String; 3] {
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
