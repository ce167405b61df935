//! Administration from a terminal: machines, scopes, tokens, signing keys, instances and the change log, over HTTP with a key
//! or through the operator's door of a data folder.

mod audit;
mod connection;
mod instances;
mod keys;
mod machines;
pub(crate) mod output;
mod refusal;
mod scopes;
mod selection;
mod tokens;

pub(crate) use audit::AuditArgs;
pub(crate) use instances::{InstanceArgs, NewInstanceBody, setting_hint};
pub(crate) use keys::KeyArgs;
pub(crate) use machines::MachineArgs;
pub(crate) use refusal::hint as refusal_hint;
pub(crate) use scopes::{ScopeArgs, WhyArgs};
pub(crate) use tokens::TokenArgs;

use clap::Subcommand;

use crate::exit::Failure;

/// The commands of administration.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Machines: who takes part
    #[command(
        after_help = "Example:\n  countersign machine create \"Webhook Handler\" --calls \"tRPC API\" --output webhook.key"
    )]
    Machine(MachineArgs),
    /// Scopes: who may call whom
    #[command(after_help = "Example:\n  countersign scope add \"Webhook Handler\" \"tRPC API\"")]
    Scope(ScopeArgs),
    /// Tokens: create, list, verify, revoke
    #[command(
        after_help = "Example:\n  countersign token create \"Webhook Handler\" --ttl 365d --output webhook.token"
    )]
    Token(TokenArgs),
    /// Signing keys of JWTs: list, rotate, delete
    #[command(after_help = "Example:\n  countersign key rotate")]
    Key(KeyArgs),
    /// Instances, their settings and their keys
    #[command(after_help = "Example:\n  countersign instance set max_jwt_ttl=24h")]
    Instance(InstanceArgs),
    /// The change log: who changed what, and whether a record was altered
    #[command(after_help = "Example:\n  countersign audit list --after 100")]
    Audit(AuditArgs),
    /// May this machine call that one, and if not, why not?
    #[command(after_help = "Example:\n  countersign why \"Webhook Handler\" \"tRPC API\"")]
    Why(WhyArgs),
}

/// Does one command.
pub(crate) async fn run(admin: Admin) -> Result<(), Failure> {
    match admin {
        Admin::Machine(args) => machines::run(args).await,
        Admin::Scope(args) => scopes::run(args).await,
        Admin::Token(args) => tokens::run(args).await,
        Admin::Key(args) => keys::run(args).await,
        Admin::Instance(args) => instances::run(args).await,
        Admin::Audit(args) => audit::run(args).await,
        Admin::Why(args) => scopes::why(args).await,
    }
}
