//! Runs the comparisons one after the other, prints each as it ends, and writes the report.
//!
//! Started by `scripts/bench` in the root of the repository, which builds and installs what this needs.
//! Progress goes to standard error, tables to standard output. Exit code 0: everything was measured,
//! whether or not each target was met; 1: something could not be measured.

use std::cell::OnceCell;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use countersign_bench::candidate::Plan;
use countersign_bench::cold;
use countersign_bench::comparisons::{Bench, Sizes};
use countersign_bench::process::{LOAD_CORE, pin_this_thread};
use countersign_bench::receiver;
use countersign_bench::report::{self, Section};

const REPORT: &str = "docs/reference/benchmarks.md";

/// Measures Countersign against a bare server, the crypto library and oidc-provider.
///
/// Example: scripts/bench --quick --only verify --only issue
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    /// Few rounds and few tokens; shows that everything runs, writes no report.
    #[arg(long)]
    quick: bool,
    /// Only this comparison (may be repeated); writes no report.
    #[arg(long, value_name = "NAME")]
    only: Vec<Name>,
    /// Also time a build from a fresh clone.
    #[arg(long)]
    cold: bool,
    #[arg(
        long,
        hide = true,
        env = "COUNTERSIGN_BIN",
        default_value = "target/dist/countersign"
    )]
    executable: PathBuf,
    #[arg(long, hide = true, default_value = "target/bench-work")]
    work: PathBuf,
}

/// The comparisons in the order they run: those that add tokens come after those that count them.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Name {
    Cold,
    Noise,
    Verify,
    Introspection,
    Growth,
    InProcess,
    Issue,
    Grant,
    Jwt,
    Receiver,
    Layer,
}

impl Arguments {
    fn wants(&self, name: Name) -> bool {
        if self.only.is_empty() {
            name != Name::Cold || self.cold
        } else {
            self.only.contains(&name)
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Err(error) = run(&arguments) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    eprintln!(
        "hint: the servers' logs are below {}",
        arguments.work.display()
    );
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<()> {
    let partial = arguments.quick || !arguments.only.is_empty();
    let own = std::env::current_exe()?;
    let mut bench = Bench {
        plan: plan(arguments.quick),
        sizes: sizes(arguments.quick),
        executable: arguments.executable.clone(),
        programs: own.parent().context("no folder of programs")?.to_owned(),
        work: arguments.work.clone(),
        usual: OnceCell::new(),
    };
    let color = std::io::stdout().is_terminal();
    let mut sections = Vec::new();
    let wanted: Vec<_> = Name::value_variants()
        .iter()
        .filter(|name| arguments.wants(**name))
        .collect();
    for (number, name) in wanted.iter().enumerate() {
        let text = name
            .to_possible_value()
            .expect("no comparison is hidden from the command line");
        let text = text.get_name();
        eprintln!("[{} of {}] {text}", number + 1, wanted.len());
        let section =
            measure(**name, &mut bench).with_context(|| format!("cannot measure {text}"))?;
        section.print(color)?;
        sections.push(section);
    }
    if !partial {
        report::write(Path::new(REPORT), &bench.plan, &bench.executable, &sections)?;
        eprintln!("written to {REPORT}");
    }
    let work = bench.work.clone();
    // The servers go before their folders.
    drop(bench);
    fs::remove_dir_all(work).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error).context("cannot clear the work folder"),
    })
}

fn measure(name: Name, bench: &mut Bench) -> Result<Section> {
    if name != Name::Cold {
        // The build of the newcomer may use every core; all else starts from the load's core.
        pin_this_thread(LOAD_CORE)?;
    }
    match name {
        Name::Cold => cold::section(&bench.work, &bench.executable),
        Name::Noise => bench.noise(),
        Name::Verify => bench.verify(),
        Name::Introspection => bench.introspection(),
        Name::Growth => bench.growth(),
        Name::InProcess => bench.in_process(),
        Name::Issue => bench.issue(),
        Name::Grant => bench.grant(),
        Name::Jwt => bench.jwt(),
        Name::Receiver => receiver::checks(bench),
        Name::Layer => receiver::layer(bench),
    }
}

fn plan(quick: bool) -> Plan {
    let (rounds, warm_up, window) = if quick {
        (2, 200, 500)
    } else {
        (5, 1000, 4000)
    };
    Plan {
        rounds,
        warm_up: Duration::from_millis(warm_up),
        window: Duration::from_millis(window),
        connections: 64,
    }
}

fn sizes(quick: bool) -> Sizes {
    if quick {
        Sizes {
            small: 1_000,
            usual: 20_000,
            large: 50_000,
            small_index_mib: 8,
        }
    } else {
        Sizes {
            small: 10_000,
            usual: 1_000_000,
            large: 5_000_000,
            small_index_mib: 256,
        }
    }
}
