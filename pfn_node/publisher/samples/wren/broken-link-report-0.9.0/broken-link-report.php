<?php
/**
 * Plugin Name:       Broken Link Report
 * Description:       Checks the links of your posts in the background, a few at a time, and lists those that fail.
 * Version:           0.9.0
 * Requires at least: 5.8
 * Requires PHP:      7.4
 * Author:            Wren
 * License:           GPL-3.0-only
 * Text Domain:       broken-link-report
 *
 * @package Broken_Link_Report
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

require_once __DIR__ . '/includes/checker.php';
require_once __DIR__ . '/includes/report.php';

register_activation_hook(
	__FILE__,
	function () {
		if ( ! wp_next_scheduled( 'broken_link_report_check' ) ) {
			wp_schedule_event( time() + MINUTE_IN_SECONDS, 'hourly', 'broken_link_report_check' );
		}
	}
);

register_deactivation_hook(
	__FILE__,
	function () {
		wp_clear_scheduled_hook( 'broken_link_report_check' );
		delete_option( 'broken_link_report_state' );
	}
);

add_action( 'broken_link_report_check', 'broken_link_report_check_some' );
add_action( 'admin_menu', 'broken_link_report_menu' );
