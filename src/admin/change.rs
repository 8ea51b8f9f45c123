//! The changes that the page asks for by `POST`, each behind the guard against forged requests.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::info;

use super::Admin;
use super::role::Client;
use crate::fleet;
use crate::inventory::{self, Forgotten, Others};
use crate::transport::http::server::{Request, Response};

impl Admin {
    /// The answer to a `POST` whose client is known. Add a change here, as one more path.
    pub(super) async fn change(self: &Arc<Self>, received: &Request, client: &Client) -> Response {
        if let Err(refused) = self.csrf.check(received, client) {
            return refused;
        }
        let response = match received.path.as_str() {
            "/forget" => self.forget(received).await,
            "/try" => self.try_account(received).await,
            "/sign-in" => self.begin_sign_in(received).await,
            "/sign-in/answer" => self.answer_sign_in(received).await,
            "/edit/add" | "/edit/password" | "/edit/remove" => self.edit(received).await,
            "/spool/remove" | "/spool/retry" => self.change_spool(received, client).await,
            "/sign-in/cancel" => self.cancel_sign_in(received).await,
            _ => Response::text(405, "GET alone is answered here\n"),
        };
        self.outdate_answers();
        response
    }

    /// Forgets what was seen of one device: its row in the inventory. That changes no configuration.
    async fn forget(&self, received: &Request) -> Response {
        let field = |name| received.field(name).unwrap_or_default();
        let Ok(source) = field("source").parse() else {
            return Response::text(400, "source is no address\n");
        };
        let (protocol, fingerprint) = (field("protocol"), field("fingerprint"));
        let forgotten = match self.forget_in_fleet(source, protocol, fingerprint).await {
            Ok(None) => self.common.inventory.forget(source, protocol, fingerprint),
            Ok(Some(elsewhere)) => elsewhere,
            Err(error) => return Response::text(503, format!("the other instances would bring it back: {error}\n")),
        };
        match forgotten {
            Forgotten::Yes => {
                info!(%source, "device forgotten: somebody asked for it on the page");
                Response::text(200, "forgotten\n")
            }
            Forgotten::Connected => Response::text(409, "this device is connected now: forget it after it has left\n"),
            Forgotten::Unknown => Response::text(404, "no such device was seen\n"),
        }
    }

    /// Has the other instances forget a device. None where this one has to decide: it is alone, or the others have not
    /// seen the device.
    async fn forget_in_fleet(
        &self,
        source: IpAddr,
        protocol: &str,
        fingerprint: &str,
    ) -> Result<Option<Forgotten>, fleet::Error> {
        let Some(view) = self.fleet.get() else { return Ok(None) };
        let inventory = &self.common.inventory;
        let key = inventory::key_of(source, protocol, fingerprint);
        let others = inventory.others_with(&key);
        if others == Others::Connected || inventory.is_open(source, protocol, fingerprint) {
            return Ok(Some(Forgotten::Connected));
        }
        view.inventory().forget(&key).await?;
        let own = inventory.forget(source, protocol, fingerprint);
        inventory.forget_of_others(&key);
        Ok(Some(if others == Others::Gone { Forgotten::Yes } else { own }))
    }
}
