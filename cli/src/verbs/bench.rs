//! `aquifer bench`: what the mesh costs, compared with no mesh and with sidecars.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bench::machine::Machine;
use bench::mode::Mode;
use bench::results::{Circumstances, LeftOut, Results};
use bench::{Settings, budget, session, table};
use drain::Signals;
use jiff::Timestamp;

pub(crate) use crate::bench::arguments::BenchArgs;
use crate::bench::{Envoy, Field, Lab, Progress, Report};
use crate::output;
use crate::program::{INTERRUPTED, command_runtime};

/// Runs the verb; success only when every budget was kept.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let settings = args.settings()?;
    let needs_mesh = settings.modes.iter().any(|mode| is_ambient(*mode));
    // Before the runtime: namespaces are entered by a copy of this process, which must not have other threads.
    let mut lab = Lab::start(args.runtime_directory.as_deref(), needs_mesh)?;
    command_runtime()?.block_on(async {
        let mut signals = Signals::install().context("cannot watch for signals")?;
        let measured = tokio::select! {
            measured = Box::pin(measure(args, settings, &mut lab)) => Some(measured),
            _ = signals.next() => None,
        };
        output::complain("ending the lab");
        let stopped = lab.stop().await;
        let Some(measured) = measured else { return Ok(ExitCode::from(INTERRUPTED)) };
        let (results, settings) = measured?;
        stopped.context("cannot end the lab")?;
        show(args, &results, &settings)
    })
}

fn is_ambient(mode: Mode) -> bool {
    matches!(mode, Mode::AmbientL4 | Mode::AmbientL4SameNode | Mode::AmbientL7)
}

async fn measure(args: &BenchArgs, mut settings: Settings, lab: &mut Lab) -> Result<(Results, Settings)> {
    let date = Timestamp::now();
    let command = args.command(&settings);
    let mut progress = Progress::new();
    let needs_envoy = settings.modes.iter().any(|mode| mode.needs_envoy());
    let mut envoy = None;
    if needs_envoy {
        envoy = Envoy::find(args.envoy.as_deref(), args.install_envoy, args.cache().as_deref()).await?;
    }
    lab.ready(&mut |step| progress.step(step)).await?;
    let (field, left_out) = Field::set_up(lab, &settings.modes, envoy.as_mut(), &mut |step| progress.step(step)).await;
    settings.modes = field.modes();
    if settings.modes.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().map(|one: &LeftOut| format!("{}: {}", one.mode, one.reason)).collect();
        bail!("no mode can be measured: {}", reasons.join("; "));
    }
    let records = session::run(&field, &settings, &mut |at| progress.turn(at)).await;
    progress.end();
    let circumstances = Circumstances {
        command,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: date.to_string(),
        machine: Machine::this(),
        conditions: conditions(&settings, envoy.as_ref()),
        left_out,
        envoy: envoy.as_ref().map(|envoy| envoy.files().to_vec()).unwrap_or_default(),
    };
    let mut results = Results::new(&records, &settings, circumstances);
    results.budgets = budget::judge(&args.budget, &results);
    Ok((results, settings))
}

/// What is the same in all modes, and what is not.
fn conditions(settings: &Settings, envoy: Option<&Envoy>) -> Vec<String> {
    let mut lines = bench::conditions::of(settings);
    if let Some(envoy) = envoy {
        lines.push(bench::conditions::of_envoy(envoy.version()));
    }
    lines
}

fn show(args: &BenchArgs, results: &Results, settings: &Settings) -> Result<ExitCode> {
    output::print(args.output, results, |results| table::render(results, settings))?;
    if !args.no_report {
        let paths = Report::write(results, settings)?.map(|path| path.display().to_string());
        output::complain(&format!("report: {}", paths.join(", ")));
    }
    output::complain(&format!("reproduce: {}", results.command));
    let violated: Vec<_> = results.budgets.iter().filter(|verdict| !verdict.kept).collect();
    for verdict in &violated {
        output::complain(&format!("{} budget {}: {}", output::bad("violated:"), verdict.budget, verdict.found));
    }
    Ok(if violated.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
