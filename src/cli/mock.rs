//! `evener mock`: a model server that speaks OpenAI, KServe V1/V2 (V2 over gRPC, too) and vLLM's metrics.
use super::terminal;
use crate::mock::{Knobs, Latency, Percent, parse_duration, serve};
use anyhow::Context as _;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve a mock model, to try Evener without one. `POST /mock` changes its knobs while it runs
#[derive(Clone, Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub struct MockArgs {
    /// Address to listen on; port 0 picks one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: String,
    /// What it calls itself
    #[arg(long, value_name = "NAME", default_value = "mock")]
    version: String,
    /// Time until the answer or its first token: `50ms`, or `lognormal:MEDIAN,SIGMA`
    #[arg(long, value_name = "LATENCY", default_value = "0")]
    latency: Latency,
    /// Requests it runs at once; more wait in line [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// Requests answered with 500, calls of gRPC with UNAVAILABLE
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    error: Percent,
    /// Requests never answered
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    hang: Percent,
    /// Requests whose connection is reset
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    reset: Percent,
    /// Time between two tokens
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    token_interval: Duration,
    /// Tokens in an answer
    #[arg(long, value_name = "N", default_value_t = 16)]
    tokens: u32,
    /// Seed of its chances [default: the port]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: MockArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let knobs = Knobs {
        version: args.version,
        latency: args.latency,
        slots: args.slots,
        error: args.error,
        hang: args.hang,
        reset: args.reset,
        token_interval: args.token_interval,
        tokens: args.tokens,
        seed: args.seed.unwrap_or_else(|| u64::from(address.port())),
        ..Knobs::default()
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    terminal::announce(&format!("listening mock http://{address}\n"));
    let stop = async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    };
    serve(listener, knobs, stop).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(version)]
    struct Line {
        #[command(flatten)]
        mock: MockArgs,
    }

    #[test]
    fn every_flag_of_the_contract_is_read() {
        let line = "mock --listen 127.0.0.1:0 --version v2 --latency lognormal:20ms,1.0 --slots 4 \
                    --error 2% --hang 1% --reset 1% --token-interval 20ms --tokens 8 --seed 3";
        let args = Line::try_parse_from(line.split_whitespace()).unwrap().mock;
        assert_eq!((args.version.as_str(), args.slots, args.tokens), ("v2", Some(4), 8));
        assert_eq!(args.token_interval, Duration::from_millis(20));
        assert_eq!(
            (args.error, args.hang),
            (Percent::new(2.0).unwrap(), Percent::new(1.0).unwrap())
        );
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in ["mock --error 200%", "mock --slots 0", "mock --latency fast"] {
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
