//! `aquifer bench`: what the mesh costs, compared with no mesh and with sidecars.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bench::metric::Measurement;
use bench::results::{Circumstances, LeftOut, Results};
use bench::{Settings, budget, conditions, session, table};
use drain::Signals;
use jiff::Timestamp;

pub(crate) use crate::bench::arguments::BenchArgs;
use crate::bench::{Envoy, Field, Ground, Progress, Report, Site};
use crate::program::{INTERRUPTED, command_runtime};
use crate::{failure, output};

/// Runs the verb; success only when every budget was kept.
pub(crate) fn run(args: BenchArgs) -> Result<ExitCode> {
    let args = args.replayed()?;
    let settings = args.settings()?;
    let mut ground = Ground::open(&args, &settings)?;
    command_runtime()?.block_on(async {
        let mut signals = Signals::install().context("cannot watch for signals")?;
        let measured = tokio::select! {
            measured = Box::pin(measure(&args, settings, &mut ground)) => Some(measured),
            _ = signals.next() => None,
        };
        output::complain(&ground.closing());
        // Bounded by itself; whoever cannot wait so long kills this process.
        let closed = ground.close().await;
        match measured {
            Some(Ok((results, settings))) => {
                let code = show(&args, &results, &settings)?;
                closed.map(|()| code)
            }
            other => {
                if let Err(left) = &closed {
                    failure::report(left);
                }
                other.map_or(Ok(ExitCode::from(INTERRUPTED)), |failed| failed.map(|_| ExitCode::SUCCESS))
            }
        }
    })
}

async fn measure(args: &BenchArgs, mut settings: Settings, ground: &mut Ground) -> Result<(Results, Settings)> {
    let date = Timestamp::now();
    let arguments = args.words(&settings);
    let mut progress = Progress::new();
    let mut envoy = find_envoy(args, &settings).await?;
    let site: Site = ground.ready(&mut |step| progress.step(step)).await?;
    let (field, left_out) =
        Field::set_up(&site, &settings.modes, envoy.as_mut(), &mut |step| progress.step(step)).await;
    settings.modes = field.modes();
    if settings.modes.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().map(|one: &LeftOut| format!("{}: {}", one.mode, one.reason)).collect();
        bail!("no mode can be measured: {}", reasons.join("; "));
    }
    let unseen = site.proxies_unseen();
    let uncounted = if unseen.is_none() { bench::usage::why_no_system_calls() } else { None };
    if unseen.is_some() || uncounted.is_some() {
        settings.measurements.retain(|one| *one != Measurement::Syscalls);
    }
    let (turns, time) = session::planned(&settings);
    progress.step(&format!("{turns} turns of load, {:.0} s", time.as_secs_f64()));
    let records = Box::pin(session::run(&field, &settings, &mut |at| progress.turn(at))).await;
    progress.end();
    let mut lines = conditions::of(&settings, site.ground());
    if let Some(envoy) = &envoy {
        let told = match envoy.version() {
            Some(version) => Some(version.to_owned()),
            None => field.envoy_version().await,
        };
        lines.push(conditions::of_envoy(told.as_deref().unwrap_or("of an unknown version")));
    }
    lines.extend(uncounted);
    let circumstances = Circumstances {
        arguments,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: date.to_string(),
        ground: site.ground().clone(),
        conditions: lines,
        proxies_unseen: unseen,
        tls: field.tls().await,
        left_out,
        envoy: envoy.as_ref().map(|envoy| envoy.files().to_vec()).unwrap_or_default(),
    };
    let mut results = Results::new(&records, &settings, circumstances);
    results.budgets = budget::judge(&args.budget, &results);
    Ok((results, settings))
}

/// The Envoy of the modes that need one.
async fn find_envoy(args: &BenchArgs, settings: &Settings) -> Result<Option<Envoy>> {
    if !settings.modes.iter().any(|mode| mode.needs_envoy()) {
        return Ok(None);
    }
    if args.is_cluster() {
        return args.envoy_image.as_deref().map(Envoy::of_image).transpose();
    }
    Envoy::find(args.envoy.as_deref(), args.install_envoy, args.cache().as_deref()).await
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
