//! What the benchmark says: sections of tables and targets, the same Markdown on the terminal and on file.
//!
//! Tables are padded so that they read without rendering. Color marks met and missed targets, on a
//! terminal only. The file adds the machine, the date, the versions and the method.

use std::fmt::Write;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::candidate::{Figures, Plan};
use crate::clock::{now, today};
use crate::oidc;

/// One comparison's outcome.
#[derive(Debug)]
pub struct Section {
    pub title: &'static str,
    pub lead: String,
    pub tables: Vec<Table>,
    pub checks: Vec<Check>,
}

#[derive(Debug)]
pub struct Table {
    pub headers: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// A figure with the bound that it must keep, and where it is meant to go.
#[derive(Debug)]
pub struct Check {
    pub what: &'static str,
    pub measured: f64,
    pub target: Target,
    pub goal: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Table {
    /// Lays out what every comparison of candidates found.
    pub fn of_figures(figures: &[Figures]) -> Self {
        let row = |figures: &Figures| {
            let median = &figures.median;
            vec![
                figures.name.clone(),
                format!("{:.2}", median.processor),
                format!("{:.2} to {:.2}", figures.lowest, figures.highest),
                format!("{:.0}", median.rate),
                format!("{:.2}", median.p50),
                format!("{:.2}", median.p99),
            ]
        };
        Self {
            headers: vec![
                "candidate",
                "processor µs per answer",
                "in all rounds",
                "answers/s",
                "p50 ms",
                "p99 ms",
            ],
            rows: figures.iter().map(row).collect(),
        }
    }

    fn of_checks(checks: &[Check]) -> Self {
        let row = |check: &Check| {
            let target = match check.target {
                Target::AtLeast(bound) => format!("≥ {bound}"),
                Target::AtMost(bound) => format!("≤ {bound}"),
            };
            let goal = check.goal.map_or("–".to_owned(), |goal| goal.to_string());
            let verdict = if check.is_met() { MET } else { MISSED };
            vec![
                check.what.to_owned(),
                format!("{:.2}", check.measured),
                target,
                goal,
                verdict.to_owned(),
            ]
        };
        Self {
            headers: vec!["target", "measured", "wanted", "on the way to", "verdict"],
            rows: checks.iter().map(row).collect(),
        }
    }

    fn markdown(&self) -> String {
        let columns = self.headers.len();
        let width = |text: &str| text.chars().count();
        let mut widths: Vec<_> = self.headers.iter().map(|header| width(header)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::from("|");
            for (column, (cell, widest)) in cells.zip(&widths).enumerate() {
                let space = " ".repeat(widest - width(cell));
                // The first column holds names, the others figures.
                let _ = match column {
                    0 => write!(line, " {cell}{space} |"),
                    _ => write!(line, " {space}{cell} |"),
                };
            }
            line + "\n"
        };
        let rules: Vec<_> = (0..columns)
            .zip(&widths)
            .map(|(column, widest)| match column {
                0 => "-".repeat(*widest),
                _ => "-".repeat(widest - 1) + ":",
            })
            .collect();
        let mut text = line(&mut self.headers.iter().copied());
        text += &line(&mut rules.iter().map(String::as_str));
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

const MET: &str = "met";
const MISSED: &str = "**missed**";

impl Check {
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtLeast(bound) => self.measured >= bound,
            Target::AtMost(bound) => self.measured <= bound,
        }
    }
}

impl Section {
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.title, self.lead);
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        if !self.checks.is_empty() {
            let _ = write!(text, "\n{}", Table::of_checks(&self.checks).markdown());
        }
        text
    }

    /// Prints the section on standard output, with color where `color` says so.
    pub fn print(&self, color: bool) -> Result<()> {
        let mut text = self.markdown();
        if color {
            text = text
                .replace(MISSED, "\u{1b}[31m  missed  \u{1b}[0m")
                .replace(
                    &format!(" {MET} |"),
                    &format!(" \u{1b}[32m{MET}\u{1b}[0m |"),
                );
        }
        writeln!(std::io::stdout().lock(), "{text}").context("cannot print")
    }
}

/// Writes the whole report to `file`.
pub fn write(file: &Path, plan: &Plan, executable: &Path, sections: &[Section]) -> Result<()> {
    let mut text = format!(
        "# Benchmarks\n\nWritten by `scripts/bench` on {}; do not edit.\n\n{}\n## Method\n\n{}\n",
        today()?,
        surroundings(executable)?,
        method(plan),
    );
    for section in sections {
        let _ = write!(text, "\n{}", section.markdown());
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn method(plan: &Plan) -> String {
    format!(
        "Candidates run alternately in one sitting, {} rounds of {} s after {} s of warm-up, with {} \
         keep-alive HTTP/1.1 connections from a load generator on one core to a server on another; \
         every answer is checked.\nCompared is the server's processor time, user and system, per \
         answered request; all figures are medians of the rounds, ratios are those of the medians, and \
         the first section shows how far two runs of one and the same server differ.",
        plan.rounds,
        plan.window.as_secs_f64(),
        plan.warm_up.as_secs_f64(),
        plan.connections
    )
}

/// Describes the machine and the versions, as a Markdown table.
fn surroundings(executable: &Path) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let cores = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).unwrap_or("0");
    let gibibytes = memory.parse::<f64>()? / 1024.0 / 1024.0;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let rows = [
        ("processor", format!("{model}, {cores} cores")),
        ("memory", format!("{gibibytes:.0} GiB")),
        ("kernel", format!("Linux {}", kernel.trim())),
        (
            "4 KiB write and fsync",
            format!("{:.0} µs", sync_microseconds()?),
        ),
        ("countersign", output(executable, &["--version"])),
        (
            "commit",
            output("git".as_ref(), &["describe", "--always", "--dirty"]),
        ),
        ("rustc", output("rustc".as_ref(), &["--version"])),
        ("hyper", locked_version("hyper").unwrap_or_default()),
        ("aws-lc-rs", locked_version("aws-lc-rs").unwrap_or_default()),
        ("node", output("node".as_ref(), &["--version"])),
        ("oidc-provider", oidc_provider_version().unwrap_or_default()),
    ];
    let table = Table {
        headers: vec!["machine and versions", ""],
        rows: rows
            .map(|(name, value)| vec![name.to_owned(), value])
            .into(),
    };
    Ok(table.markdown())
}

/// Returns what a program prints, or a note that it is missing.
fn output(program: &Path, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or("not known".to_owned(), |text| text.trim().to_owned())
}

/// Looks a crate up in the lock file.
fn locked_version(name: &str) -> Option<String> {
    let lock = fs::read_to_string("Cargo.lock").ok()?;
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn oidc_provider_version() -> Option<String> {
    let path = format!("{}/node_modules/oidc-provider/package.json", oidc::FOLDER);
    let package: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(package.get("version")?.as_str()?.to_owned())
}

/// Measures what durability costs on this disk: the median of 50 small synchronised writes.
fn sync_microseconds() -> Result<f64> {
    let path = Path::new("target").join("bench-sync");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort();
    let median = times.get(times.len() / 2).context("no write was timed")?;
    Ok(median.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_padded_markdown() {
        let table = Table {
            headers: vec!["name", "µs"],
            rows: vec![vec!["a".into(), "10.25".into()]],
        };
        let expected = "| name |    µs |\n| ---- | ----: |\n| a    | 10.25 |\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn target_is_met_on_its_bound() {
        let check = |measured, target| Check {
            what: "x",
            measured,
            target,
            goal: None,
        };
        assert!(check(0.6, Target::AtLeast(0.6)).is_met());
        assert!(!check(0.59, Target::AtLeast(0.6)).is_met());
        assert!(check(1.5, Target::AtMost(1.5)).is_met());
        assert!(!check(1.6, Target::AtMost(1.5)).is_met());
    }
}
