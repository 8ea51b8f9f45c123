//! `packetboat logout` signs the person of an account out: packetboat forgets the refresh token.

use super::error::{CommandError, Exit, unavailable};
use super::output::{print, print_error};
use crate::config::Proven;
use crate::fleet::{Fleet, check_schema};
use crate::token::{SigningOut, fleet_password, sign_out};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Sign out for this account: NAME of an [account.NAME] in the configuration
    account: String,
}

pub(super) fn logout(proven: &Proven, arguments: &Arguments) -> Result<(), CommandError> {
    let config = &proven.config;
    let name = arguments.account.as_str();
    let Some(account) = config.accounts.get(name) else {
        let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
        let why = format_args!("there is no account \"{name}\"; known are {}", known.join(", "));
        return Err(Exit::Usage.because(why));
    };
    let Some(identity) = config.identities.get(&account.identity).filter(|identity| identity.grant.needs_login())
    else {
        let why = format_args!("account \"{name}\" has no sign-in: its identity's grant gets tokens by itself");
        return Err(Exit::Usage.because(why));
    };
    super::runtime()?.block_on(async {
        let fleet = Fleet::of(config, fleet_password(config).map_err(unavailable)?).map_err(unavailable)?;
        if let Some(fleet) = &fleet {
            let facts = fleet.records().database().await.map_err(unavailable)?;
            check_schema(facts.schema).map_err(unavailable)?;
        }
        let of = SigningOut { name, account, identity };
        let signed_out = sign_out(config, fleet.as_deref(), &of).await.map_err(unavailable)?;
        let user = &account.user;
        if signed_out.had_other_key {
            print_error(format_args!(
                "warning: the sign-in in the fleet's database was sealed with another store_key than this computer has. If \
                 the other instances have that key still, none of them removes its copy of the sign-in: give this computer \
                 the same store_key, sign in again with packetboat login {name}, and run this command again"
            ));
        }
        if !signed_out.was_there {
            return print(format_args!("{user} was not signed in.\n"));
        }
        let effect = match fleet {
            Some(_) => {
                "No instance of the fleet renews this sign-in any more. Each opens mailboxes with its present access token \
                 until that ends, which takes up to 90 minutes at Microsoft."
            }
            None => {
                "A running packetboat opens mailboxes with its present access token until that ends, which takes up to 90 \
                 minutes at Microsoft; systemctl restart packetboat ends that at once."
            }
        };
        print(format_args!(
            "{user} is signed out. {effect} To end the sign-in at Microsoft as well, run in PowerShell: \
             Revoke-MgUserSignInSession -UserId {user}\n"
        ))
    })
}
