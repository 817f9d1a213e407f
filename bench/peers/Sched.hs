{-# LANGUAGE BangPatterns, ForeignFunctionInterface, MagicHash, UnboxedTuples #-}
-- GHC's lightweight threads: the work and the options of ../sched_capstan.c, whose head says what is printed.
module Main (main) where

import Control.Concurrent
import Control.Monad
import Data.Int (Int64)
import Data.List (sort, stripPrefix)
import Data.Maybe (listToMaybe, mapMaybe)
import GHC.Clock (getMonotonicTimeNSec)
import GHC.Exts
import GHC.IO (IO (..))
import Numeric (showFFloat)
import System.Exit (die)
import System.Environment (getArgs)
import System.IO
import System.Mem (performMajorGC, performMinorGC)

foreign import ccall unsafe "nextNumber" unsafeNext :: Int64 -> IO Int64
foreign import ccall safe "nextNumber" safeNext :: Int64 -> IO Int64

data Options = Options { figure :: String, capabilities :: Int, seconds :: Double, count :: Int }

-- Counters -----------------------------------------------------------------------------------------------------------

data Counter = Counter (MutableByteArray# RealWorld)

newCounter :: IO Counter
newCounter = do
  counter <- IO $ \s -> case newByteArray# 8# s of (# s', a #) -> (# s', Counter a #)
  writeCounter counter 0
  return counter

readCounter :: Counter -> IO Int
readCounter (Counter a) = IO $ \s -> case readIntArray# a 0# s of (# s', n #) -> (# s', I# n #)

writeCounter :: Counter -> Int -> IO ()
writeCounter (Counter a) (I# n) = IO $ \s -> case writeIntArray# a 0# n s of s' -> (# s', () #)

-- Atomic; gives the new value.
addTo :: Counter -> Int -> IO Int
addTo (Counter a) (I# n) = IO $ \s -> case fetchAddIntArray# a 0# n s of (# s', old #) -> (# s', I# (old +# n) #)

-- Calls of C ---------------------------------------------------------------------------------------------------------

callUnsafe, callSafe :: Int -> IO Int
callUnsafe n = go 0 0
  where go :: Int -> Int64 -> IO Int
        go !i !seen | i == n = return (fromIntegral seen)
                    | otherwise = unsafeNext seen >>= go (i + 1)
callSafe n = go 0 0
  where go :: Int -> Int64 -> IO Int
        go !i !seen | i == n = return (fromIntegral seen)
                    | otherwise = safeNext seen >>= go (i + 1)

-- From a bound thread: in a new thread, which is not.
unbound :: (Int -> IO Int) -> Int -> IO Int
unbound function n = do
  result <- newEmptyMVar
  _ <- forkIO (function n >>= putMVar result)
  takeMVar result

-- Start and finish ---------------------------------------------------------------------------------------------------

batchOfThreads :: Int
batchOfThreads = 1000

startThreads :: Int -> IO Int
startThreads n = do
  running <- newCounter
  done <- newEmptyMVar
  let countDown = do left <- addTo running (-1)
                     when (left == 0) $ putMVar done ()
      go !seen
        | seen == n = return seen
        | otherwise = do
            let batch = min batchOfThreads (n - seen)
            writeCounter running batch
            forTimes batch $ void (forkIO countDown)
            takeMVar done
            left <- readCounter running
            go (seen + batch - left)
  go 0

forTimes :: Int -> IO () -> IO ()
forTimes n action = go n
  where go :: Int -> IO ()
        go 0 = return ()
        go i = action >> go (i - 1)
{-# INLINE forTimes #-}

-- Switching ----------------------------------------------------------------------------------------------------------

switchByYield :: Int -> IO Int
switchByYield n = do
  turn <- newCounter
  arrived <- newCounter
  done <- newEmptyMVar
  let go :: Int -> Int -> Int -> IO ()
      go !_ 0 !seen = putMVar done seen
      go me left seen = do
        last' <- readCounter turn
        if last' /= me
          then writeCounter turn me >> yield >> go me (left - 1) (seen + 1)
          else yield >> go me (left - 1) seen
      untilBoth = do
        here <- readCounter arrived
        when (here < 2) $ yield >> untilBoth
  forM_ [1, 2] $ \me -> forkOn 0 (addTo arrived 1 >> untilBoth >> go me (n `div` 2) 0)
  (+) <$> takeMVar done <*> takeMVar done

serveBalls :: MVar Int -> MVar Int -> Int -> IO Int
serveBalls there back rounds = go rounds 0
  where go :: Int -> Int -> IO Int
        go 0 !ball = return ball
        go left ball = putMVar there ball >> takeMVar back >>= go (left - 1)

returnBalls :: MVar Int -> MVar Int -> Int -> IO ()
returnBalls there back rounds = forTimes rounds $ do
  ball <- takeMVar there
  putMVar back $! ball + 1

switchByMVar :: (IO () -> IO ThreadId) -> Int -> IO Int
switchByMVar start n = do
  there <- newEmptyMVar
  back <- newEmptyMVar
  done <- newEmptyMVar
  _ <- start (returnBalls there back (n `div` 2))
  _ <- start (serveBalls there back (n `div` 2) >>= putMVar done)
  (* 2) <$> takeMVar done

switchBound :: Int -> IO Int
switchBound n = do
  isBound <- isCurrentThreadBound
  unless isBound $ die "bench: the thread is not bound"
  there <- newEmptyMVar
  back <- newEmptyMVar
  _ <- forkIO (returnBalls there back (n `div` 2))
  (* 2) <$> serveBalls there back (n `div` 2)

-- Batches ------------------------------------------------------------------------------------------------------------

printFigure :: String -> Double -> String -> IO ()
printFigure metric value unit = putStrLn (metric ++ "\t" ++ showFFloat (Just 6) value "" ++ "\t" ++ unit)

timeBatch :: String -> (Int -> IO Int) -> Int -> Int -> IO Double
timeBatch metric function leastPercent n = do
  start <- getMonotonicTimeNSec
  seen <- function n
  end <- seen `seq` getMonotonicTimeNSec
  unless (seen <= n && seen * 100 >= n * leastPercent) $
    die ("bench: " ++ metric ++ ": of " ++ show n ++ " operations " ++ show seen ++ " happened")
  return (fromIntegral (end - start))

timeBatches :: Options -> (Int -> IO Double) -> IO Double
timeBatches o batch = do
  n <- warmUp 1000
  start <- getMonotonicTimeNSec
  let end = start + round (seconds o * 1e9)
      go :: Double -> Double -> Int -> IO Double
      go !fastest !total !batches = do
        took <- batch n
        now <- getMonotonicTimeNSec
        let fastest' = min fastest took
            total' = total + took
        if now < end then go fastest' total' (batches + 1)
          else return (if capabilities o == 1 then fastest' / fromIntegral n
                       else total' / fromIntegral n / fromIntegral (batches + 1))
  go 1e300 0 0
  where warmUp n = do
          took <- batch n
          if took < 1e7 then warmUp (2 * n) else return n

measure :: Options -> String -> Int -> (Int -> IO Int) -> IO ()
measure o metric leastPercent function = do
  let batch = timeBatch metric function leastPercent
  ns <- if count o > 0 then (/ fromIntegral (count o)) <$> batch (count o) else timeBatches o batch
  printFigure metric ns "ns"

-- Parked threads -----------------------------------------------------------------------------------------------------

residentBytes :: IO Double
residentBytes = do
  text <- withFile "/proc/self/statm" ReadMode $ \h -> hGetLine h
  return (4096 * read (words text !! 1))

data Gate = Gate { gate, milestone :: MVar (), parked, released :: Counter }

newGate :: IO Gate
newGate = Gate <$> newEmptyMVar <*> newEmptyMVar <*> newCounter <*> newCounter

park :: Gate -> Int -> IO ()
park g n = do
  here <- addTo (parked g) 1
  when (here == n) $ putMVar (milestone g) ()
  takeMVar (gate g)
  through <- addTo (released g) 1
  when (through == n) $ putMVar (milestone g) ()

parkAll :: Gate -> Int -> IO ()
parkAll g n = do
  forTimes n $ void (forkIO (park g n))
  takeMVar (milestone g)
  checkParked g n

checkParked :: Gate -> Int -> IO ()
checkParked g n = do
  here <- readCounter (parked g)
  through <- readCounter (released g)
  unless (here == n && through == 0) $ die "bench: a parked thread did not stay so"

releaseAll :: Gate -> Int -> IO ()
releaseAll g n = do
  checkParked g n
  forTimes n $ putMVar (gate g) ()
  takeMVar (milestone g)
  through <- readCounter (released g)
  unless (through == n) $ die "bench: not every thread passed the gate"

measureParked :: Int -> IO ()
measureParked n = do
  g <- newGate
  before <- residentBytes
  start <- getMonotonicTimeNSec
  parkAll g n
  end <- getMonotonicTimeNSec
  after <- residentBytes
  printFigure "resident" ((after - before) / fromIntegral n) "B"
  printFigure "create" (fromIntegral (end - start) / 1e3 / fromIntegral n) "us"
  releaseAll g n

medianMs :: IO () -> IO Double
medianMs action = do
  times <- replicateM 5 $ do
    start <- getMonotonicTimeNSec
    action
    end <- getMonotonicTimeNSec
    return (fromIntegral (end - start) / 1e6)
  return (sort times !! 2)

measureCollections :: Int -> IO ()
measureCollections n = do
  g <- newGate
  before <- residentBytes
  parkAll g n
  medianMs performMajorGC >>= \ms -> printFigure "full" ms "ms"
  medianMs performMinorGC >>= \ms -> printFigure "minor" ms "ms"
  after <- residentBytes
  printFigure "resident_after" ((after - before) / fromIntegral n) "B"
  releaseAll g n

-- Command line -------------------------------------------------------------------------------------------------------

-- The main thread is a bound one; only what asks for one runs there.
runFigure :: Options -> IO ()
runFigure o = case figure o of
  "calls" -> do
    measure o "unsafe_call" 100 callUnsafe
    measure o "safe_call" 100 callSafe
    measure o "unsafe_call_unbound" 100 (unbound callUnsafe)
    measure o "safe_call_unbound" 100 (unbound callSafe)
  "threads" -> runInUnboundThread $ measure o "start_finish" 100 startThreads
  "switch" -> runInUnboundThread $ do
    measure o "yield" 90 switchByYield
    measure o "mvar" 100 (switchByMVar forkIO)
    when (capabilities o > 1) $ measure o "mvar_together" 100 (switchByMVar (forkOn 0))
  "bound" -> measure o "mvar_bound" 100 switchBound
  "parked" -> runInUnboundThread $ measureParked threads
  "collect" -> runInUnboundThread $ measureCollections threads
  _ -> die "bench: unknown figure"
  where threads = if count o > 0 then count o else 1000000

readOptions :: [String] -> Options
readOptions args = Options
  { figure = concat [a | a <- args, take 2 a /= "--"]
  , capabilities = maybe 1 read (option "--capabilities=")
  , seconds = maybe 0.3 (read . withZero) (option "--seconds=")
  , count = maybe 0 read (option "--count=") }
  where option name = listToMaybe (mapMaybe (stripPrefix name) args)
        withZero s = if take 1 s == "." then '0' : s else s

main :: IO ()
main = do
  o <- readOptions <$> getArgs
  setNumCapabilities (capabilities o)
  runFigure o
  hFlush stdout
