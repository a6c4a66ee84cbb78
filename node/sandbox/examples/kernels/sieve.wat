;; Marks the composites below 4 Mi in a byte each, eight times over: scalar stores with growing strides.
(module
  (memory (export "memory") 66)
  (func (export "_start")
    (local $round i32) (local $i i32) (local $j i32)
    (loop $rounds
      (memory.fill (i32.const 0) (i32.const 0) (i32.const 4194304))
      (local.set $i (i32.const 2))
      (loop $numbers
        (if (i32.eqz (i32.load8_u (local.get $i)))
          (then
            (local.set $j (i32.mul (local.get $i) (local.get $i)))
            (if (i32.lt_u (local.get $j) (i32.const 4194304))
              (then
                (loop $marks
                  (i32.store8 (local.get $j) (i32.const 1))
                  (local.set $j (i32.add (local.get $j) (local.get $i)))
                  (br_if $marks (i32.lt_u (local.get $j) (i32.const 4194304))))))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $numbers (i32.lt_u (local.get $i) (i32.const 2048))))
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (br_if $rounds (i32.lt_u (local.get $round) (i32.const 8))))))
