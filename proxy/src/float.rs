//! `exp` and `pow` of the C library, which two dependencies call (the resolver's decaying latencies, and
//! a progress bar), from [`libm`]: for them alone every proxy would map the C library's `libm.so`, 0.3 MB
//! of which stay resident.

/// `exp(3)`.
#[unsafe(no_mangle)]
extern "C" fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// `pow(3)`.
#[unsafe(no_mangle)]
extern "C" fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{E, SQRT_2};

    use super::{exp, pow};

    #[test]
    fn they_are_what_c_says_of_them() {
        assert!((exp(1.0) - E).abs() <= f64::EPSILON * 2.0);
        assert_eq!((exp(0.0), exp(f64::NEG_INFINITY), exp(1e3)), (1.0, 0.0, f64::INFINITY));
        assert!((pow(2.0, 0.5) - SQRT_2).abs() <= f64::EPSILON);
        assert_eq!((pow(0.0, 0.0), pow(10.0, -2.0), pow(-2.0, 3.0)), (1.0, 0.01, -8.0));
        assert!(exp(f64::NAN).is_nan() && pow(-1.0, 0.5).is_nan());
    }
}
