;; Iterates z = z * z + c in f64 for 256 x 256 points, at most 200 times each: a chain of canonicalised floats.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $x i32) (local $y i32) (local $n i32) (local $escaped i32)
    (local $cr f64) (local $ci f64) (local $zr f64) (local $zi f64) (local $rr f64) (local $ii f64)
    (loop $rows
      (local.set $x (i32.const 0))
      (loop $columns
        (local.set $cr (f64.sub (f64.mul (f64.convert_i32_s (local.get $x)) (f64.const 0.01)) (f64.const 2)))
        (local.set $ci (f64.sub (f64.mul (f64.convert_i32_s (local.get $y)) (f64.const 0.01)) (f64.const 1.28)))
        (local.set $zr (f64.const 0))
        (local.set $zi (f64.const 0))
        (local.set $n (i32.const 0))
        (block $done
          (loop $iterate
            (local.set $rr (f64.mul (local.get $zr) (local.get $zr)))
            (local.set $ii (f64.mul (local.get $zi) (local.get $zi)))
            (br_if $done (f64.gt (f64.add (local.get $rr) (local.get $ii)) (f64.const 4)))
            (local.set $zi
              (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $zr)) (local.get $zi)) (local.get $ci)))
            (local.set $zr (f64.add (f64.sub (local.get $rr) (local.get $ii)) (local.get $cr)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $iterate (i32.lt_u (local.get $n) (i32.const 200)))))
        (local.set $escaped (i32.add (local.get $escaped) (local.get $n)))
        (local.set $x (i32.add (local.get $x) (i32.const 1)))
        (br_if $columns (i32.lt_u (local.get $x) (i32.const 256))))
      (local.set $y (i32.add (local.get $y) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $y) (i32.const 256))))
    (i32.store (i32.const 0) (local.get $escaped))))
