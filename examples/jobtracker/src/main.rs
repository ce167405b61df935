//! The API, the issuer and the bots as commands.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Parser as _;
use countersign_client::{TokenSource, TokenSourceBuilder};
use countersign_receiver::{ReceiverBuilder, Services, UserIssuer};
use jobtracker::bots::{CandidateRepresenter, JobApplier};
use jobtracker::database::Database;
use jobtracker::issuer::Issuer;
use jobtracker::settings::{ApiSettings, BotSettings, Command, IssuerSettings, Settings};
use jobtracker::{api, issuer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Before there are threads, because it changes the environment.
    match dotenvy::from_path(".env") {
        Err(error) if !error.not_found() => {
            eprintln!("error: cannot read .env: {error}");
            return ExitCode::FAILURE;
        }
        _ => {}
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Settings::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Each of these errors has its causes in its own text.
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Api(settings) => serve_api(settings).await,
        Command::Issuer(settings) => serve_issuer(settings).await,
        Command::Represent {
            bot,
            application_id,
            question,
        } => {
            let tokens = tokens(&bot, "candidate-representer")?;
            let representer = CandidateRepresenter::new(&bot.api_url, tokens).await?;
            println!("{}", representer.answer(&application_id, &question).await?);
            Ok(())
        }
        Command::Apply(bot) => {
            let tokens = tokens(&bot, api::JOB_APPLIER)?;
            let applier = JobApplier::new(&bot.api_url, tokens).await?;
            match applier.apply_to_next().await? {
                Some(application) => println!("{} is {}", application.id, application.status),
                None => println!("no application is queued"),
            }
            Ok(())
        }
    }
}

async fn serve_api(settings: ApiSettings) -> anyhow::Result<()> {
    let mut users = UserIssuer::new(&settings.issuer);
    if let Some(audience) = &settings.audience {
        users = users.audience(audience);
    }
    // An empty variable is one that was not filled in.
    let parties = settings.authorized_parties.iter();
    for party in parties.filter(|party| !party.is_empty()) {
        users = users.authorized_party(party);
    }
    let services = Services::from_env();
    services.require(&[api::JOB_APPLIER])?;
    let receiver = ReceiverBuilder::from_services(&services, api::SERVICE)?
        .user_issuer(users)
        .build()?;
    let database = match &settings.database {
        Some(path) => Database::open(path)
            .map_err(|error| anyhow!("cannot open {}: {error}", path.display()))?,
        None => Database::in_memory()?,
    };
    let listener = listen(settings.listen).await?;
    tracing::info!(
        "the API is at http://{0}, its description at http://{0}/swagger",
        listener.local_addr()?
    );
    Ok(api::serve(listener, database, receiver, stop()).await?)
}

async fn serve_issuer(settings: IssuerSettings) -> anyhow::Result<()> {
    let listener = listen(settings.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let issuer =
        Issuer::new(&url, &settings.audience).map_err(|_| anyhow!("cannot make a signing key"))?;
    tracing::info!("a token of Ada is at {url}/token?user=user_ada");
    Ok(issuer::serve(listener, Arc::new(issuer), stop()).await?)
}

async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| anyhow!("cannot listen on {address}: {error}"))
}

/// The token source of this machine: a ready-made token, or tokens that are made with its key, or none.
fn tokens(bot: &BotSettings, service: &str) -> anyhow::Result<TokenSource> {
    if bot.m2m_enabled {
        let tokens = TokenSourceBuilder::from_env_for(service)?;
        Ok(tokens.format(bot.token_format.into()).build())
    } else {
        Ok(TokenSource::off())
    }
}

/// Ends with Ctrl-C, or when the system asks the process to end.
async fn stop() {
    let mut terminated = signal(SignalKind::terminate()).expect("there is a runtime with signals");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
