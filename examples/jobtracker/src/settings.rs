//! The command line and the environment of the executable. Each flag has a variable, which may stand in `.env`.
//!
//! What says where the authority is and which machine this is, `CLERK_…`, is read by the libraries themselves.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use countersign_client::TokenFormat;

/// Job applications, read by their candidates and worked on by two bots.
#[derive(Debug, Parser)]
pub struct Settings {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves the API.
    Api(ApiSettings),
    /// Serves a small OpenID issuer for users on this machine.
    Issuer(IssuerSettings),
    /// Answers a candidate's question, as the machine candidate-representer.
    Represent {
        /// The API.
        #[command(flatten)]
        bot: BotSettings,
        /// Such as app_1003.
        application_id: String,
        /// Such as "When was my application sent?".
        question: String,
    },
    /// Sends the oldest queued application, as the machine job-applier.
    Apply(BotSettings),
}

/// The settings of the API.
#[derive(Debug, Args)]
pub struct ApiSettings {
    /// Where to listen.
    #[arg(long, env = "JOBTRACKER_LISTEN", default_value = "127.0.0.1:4850")]
    pub listen: SocketAddr,
    /// The file of the database; without it everything is in memory.
    #[arg(long, env = "JOBTRACKER_DATABASE")]
    pub database: Option<PathBuf>,
    /// Whose users are accepted, as their tokens have it in `iss`.
    #[arg(
        long,
        env = "JOBTRACKER_ISSUER",
        default_value = "http://127.0.0.1:4851"
    )]
    pub issuer: String,
    /// What must be in the `aud` of a user's token; without it a token that has `aud` is refused. Clerk's session tokens have none.
    #[arg(long, env = "JOBTRACKER_AUDIENCE")]
    pub audience: Option<String>,
    /// What must be in the `azp` of a user's token: at Clerk the origin of the application, such as `https://app.example.com`.
    /// Several are separated by commas; without any, tokens of each application are accepted.
    #[arg(
        long = "authorized-party",
        env = "JOBTRACKER_AUTHORIZED_PARTY",
        value_delimiter = ','
    )]
    pub authorized_parties: Vec<String>,
}

/// The settings of the issuer.
#[derive(Debug, Args)]
pub struct IssuerSettings {
    /// Where to listen, on this machine.
    #[arg(
        long,
        env = "JOBTRACKER_ISSUER_LISTEN",
        default_value = "127.0.0.1:4851"
    )]
    pub listen: SocketAddr,
    /// Which API the tokens are for.
    #[arg(long, env = "JOBTRACKER_AUDIENCE", default_value = "jobtracker")]
    pub audience: String,
}

/// The settings of a bot.
#[derive(Debug, Args)]
pub struct BotSettings {
    /// The address of the API.
    #[arg(
        long,
        env = "JOBTRACKER_API_URL",
        default_value = "http://127.0.0.1:4850"
    )]
    pub api_url: String,
    /// Whether requests carry a token; `false` is for tests against something that wants none.
    #[arg(long, env = "JOBTRACKER_M2M_ENABLED", default_value_t = true, action = ArgAction::Set)]
    pub m2m_enabled: bool,
    /// How its tokens are written. A ready-made one stays as it is.
    #[arg(long, env = "JOBTRACKER_TOKEN_FORMAT", default_value = "opaque")]
    pub token_format: Format,
}

/// How tokens are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// `mt_…`: each check asks the authority.
    Opaque,
    /// A signed JSON Web Token: receivers may check it by themselves.
    Jwt,
}

impl From<Format> for TokenFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Opaque => Self::Opaque,
            Format::Jwt => Self::Jwt,
        }
    }
}
