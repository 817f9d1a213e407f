{-# LANGUAGE BangPatterns, ForeignFunctionInterface #-}
-- The managed side of the GHC peer; GHC's own stubs are the subject's functions.
module Calls where

data Cell = Nil | Cell !Int !Cell

foreign export ccall subjectCall :: Int -> IO Int
foreign export ccall subjectWork :: Int -> IO Int

subjectCall :: Int -> IO Int
subjectCall n = return $! n + 1
{-# NOINLINE subjectCall #-}

subjectWork :: Int -> IO Int
subjectWork rounds = return $! step rounds (sumCells 0 (makeCells 1 Nil))
{-# NOINLINE subjectWork #-}

makeCells :: Int -> Cell -> Cell
makeCells !i !list
  | i > 8 = list
  | otherwise = makeCells (i + 1) (Cell i list)
{-# NOINLINE makeCells #-}

sumCells :: Int -> Cell -> Int
sumCells !s Nil = s
sumCells !s (Cell n rest) = sumCells (s + n) rest
{-# NOINLINE sumCells #-}

step :: Int -> Int -> Int
step 0 !x = x
step n !x = step (n - 1) (x * 16807 `rem` 2147483647)
