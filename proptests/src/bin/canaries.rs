//! Shows that the mesh simulator finds bugs: plants one after the other and runs default seeds until
//! something does not hold. Built with `--cfg selvedge_canary`, in a target directory of its own;
//! without that there is nothing to find, and it says so.

#[cfg(not(selvedge_canary))]
fn main() -> std::process::ExitCode {
    eprintln!("built without canaries: RUSTFLAGS=\"--cfg selvedge_canary\" plants them");
    std::process::ExitCode::from(2)
}

#[cfg(selvedge_canary)]
fn main() -> std::process::ExitCode {
    planted::main()
}

#[cfg(selvedge_canary)]
mod planted {
    use std::process::ExitCode;

    use selvedge_core::canary::{Canary, plant};
    use selvedge_proptests::sim::{self, Invariant};

    /// Default seeds that a bug has to be found in.
    const SEEDS: u64 = 10_000;

    /// The invariant that each bug breaks. Where a bug breaks two, either may be noticed first.
    fn meant(canary: Canary) -> &'static [Invariant] {
        match canary {
            // The second answer arrives in the middle of the first one's body.
            Canary::SentAfterHead => &[Invariant::EndsOnce, Invariant::Bodies],
            // Where there is a mirror, nothing that it does excuses how a request ends.
            Canary::RepeatedPost | Canary::SharedFate => &[Invariant::EndsOnce],
            // The first answer comes on a stream that the proxy has given up.
            Canary::RepeatedAfterGoAway => &[Invariant::EndsOnce, Invariant::Bodies],
            Canary::ShortBody | Canary::FlippedByte => &[Invariant::Bodies],
            Canary::UnboundedBuffer => &[Invariant::Caps],
            Canary::LeakedCredit | Canary::LostResume | Canary::LeakedWindow => {
                &[Invariant::Credit]
            }
            Canary::MovingDeadline => &[Invariant::Deadlines],
            Canary::StuckTimer => &[Invariant::Progress],
            // Who waits for it either waits for ever, or is given up.
            Canary::LostWakeup => &[Invariant::Drains, Invariant::EndsOnce],
            // What is left is also counted.
            Canary::LeakedExchange => &[Invariant::Drains, Invariant::Load],
            Canary::LostReset | Canary::OpenStream => &[Invariant::Drains],
            Canary::RemovedPicked | Canary::LostLoad => &[Invariant::Load],
            Canary::OtherDice => &[Invariant::Determinism],
            Canary::Panic => &[Invariant::Hostile],
            Canary::ForgottenEndpoints => &[Invariant::LastKnown],
            Canary::NoBudget | Canary::NoLimit => &[Invariant::Budget],
            Canary::RetriedPost => &[Invariant::EndsOnce],
            Canary::LateRetry => &[Invariant::Deadlines],
            Canary::OneShare | Canary::AlwaysInjected | Canary::EvenShares | Canary::Unrouted => {
                &[Invariant::Routed]
            }
            Canary::SeededHash
            | Canary::MovingKeys
            | Canary::NoLoadBound
            | Canary::NoZones
            | Canary::SkippedTurns => &[Invariant::Balanced],
            // What is counted by nobody is also counted wrong.
            Canary::LostSlot => &[Invariant::Bounded, Invariant::Load],
            Canary::LastFirst
            | Canary::PatientQueue
            | Canary::LongQueue
            | Canary::WideGate
            | Canary::WideLimit => &[Invariant::Bounded],
            Canary::DoubleRate => &[Invariant::Admitted],
            // Bytes of one connection are counted, or read, as another's.
            // A late report of a write may be the first to be acted upon: it must do no harm.
            Canary::StaleId => {
                &[Invariant::Credit, Invariant::EndsOnce, Invariant::Bodies, Invariant::Hostile]
            }
        }
    }

    pub(crate) fn main() -> ExitCode {
        // A panic is what one of them is about; there is no need to read it.
        std::panic::set_hook(Box::new(|_| {}));
        plant(None);
        if let Some((seed, violation)) = sim::first_violation(0..100) {
            println!("without a bug, seed {seed}: {violation}");
            return ExitCode::FAILURE;
        }
        // Only those whose names are given, if any are.
        let wanted: Vec<String> = std::env::args().skip(1).collect();
        println!("{:<48} {:>6}  {:<28} how", "planted", "seed", "caught by");
        let mut caught = [false; Invariant::ALL.len()];
        let mut missed = 0;
        for &canary in Canary::ALL {
            let name = canary.name().trim_start_matches("selvedge-canary: ");
            if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
                continue;
            }
            plant(Some(canary));
            let found = sim::first_violation(0..SEEDS);
            let Some((seed, violation)) = found else {
                println!("{name:<48} {:>6}  NOT CAUGHT", "-");
                missed += 1;
                continue;
            };
            let invariant = violation.invariant;
            let how: String = violation.message.chars().take(70).collect();
            println!("{name:<48} {seed:>6}  {:<28} {how}", invariant.to_string());
            if meant(canary).contains(&invariant) {
                caught[invariant as usize] = true;
            } else {
                println!("{:<48} {:>6}  meant for {:?}", "", "", meant(canary));
                missed += 1;
            }
        }
        for invariant in Invariant::ALL.into_iter().filter(|_| wanted.is_empty()) {
            if !caught[invariant as usize] {
                println!("no bug trips {invariant}");
                missed += 1;
            }
        }
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
