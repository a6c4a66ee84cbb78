;; Sixteen million turns of a 64-bit mixer (xor, shift, multiply, rotate), four lanes beside each other.
(module
  (memory (export "memory") 1)
  (func $mix (param $x i64) (result i64)
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 29))))
    (local.set $x (i64.mul (local.get $x) (i64.const 0xbf58476d1ce4e5b9)))
    (local.set $x (i64.xor (local.get $x) (i64.rotl (local.get $x) (i64.const 17))))
    (i64.add (local.get $x) (i64.shl (local.get $x) (i64.const 5))))
  (func (export "_start")
    (local $n i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64)
    (local.set $a (i64.const 1)) (local.set $b (i64.const 2)) (local.set $c (i64.const 3)) (local.set $d (i64.const 4))
    (loop $again
      (local.set $a (call $mix (i64.add (local.get $a) (local.get $d))))
      (local.set $b (call $mix (i64.xor (local.get $b) (local.get $a))))
      (local.set $c (i64.add (i64.rotl (i64.xor (local.get $c) (local.get $b)) (i64.const 13)) (local.get $a)))
      (local.set $d (i64.sub (i64.xor (local.get $d) (i64.shr_u (local.get $c) (i64.const 7))) (local.get $b)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 16000000))))
    (i64.store (i32.const 0) (i64.xor (i64.xor (local.get $a) (local.get $b)) (i64.xor (local.get $c) (local.get $d))))))
